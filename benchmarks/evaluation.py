"""Times an evaluation at native resolution relative to its forward passes alone, and prints JSON.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --data oxford_iiit_pet --dir DIR --split train --images 200

Without --data, images are generated. The network is new, and everything is compiled before it is timed. The forward
passes are those of one batch, which is on the device already, as often as the evaluation has batches. In each round
three take turns: the forward passes, the evaluation, and the evaluation with boundary metrics.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
from measuring import Part, print_result, progress, ratios, result, spread, table, text

from flaxseg import compile_cache
from flaxseg.config.files import load_config
from flaxseg.train.build import Run, build
from flaxseg.train.compile import Compiled, compile_run
from flaxseg.train.evaluation import evaluate, image_logits
from flaxseg.train.sharding import place_batch
from flaxseg.train.state import create_state, load_weights
from flaxseg.train.step import TrainState

FORWARD = "forward passes alone"
EVALUATIONS = {"evaluation": (), "with boundary metrics": ("boundary",)}
"""The evaluations, and their further metrics."""


def make_run(flags: argparse.Namespace, metrics: tuple[str, ...]) -> Run:
    """Returns the run whose evaluation is timed, on the first images of the split."""
    overrides = [
        f"model.name={flags.model}", "model.options={}", f"data.image_size=({flags.size},{flags.size})",
        f"eval.batch_size={flags.batch}", f"eval.metrics={metrics}", "mesh.data=1", "train.batch_size=1",
        f"data.name={flags.data}", "data.options={}", f"data.dir={flags.dir}", f"data.eval_split={flags.split}",
    ]  # fmt: skip
    if flags.encoder:
        overrides.append(f"model.options.encoder={flags.encoder}")
    if flags.data == "shapes":
        height, width = flags.native
        overrides += [f"data.options.size=({height},{width})", f"data.options.count={flags.images}"]
    run = build(load_config("shapes", overrides))
    batches = run.data.eval_batches[: -(-flags.images // flags.batch)]
    return dataclasses.replace(run, data=dataclasses.replace(run.data, eval_batches=batches))


def forward_passes(run: Run, compiled: Compiled, state: TrainState) -> Callable[[], Any]:
    """Returns a function that computes the logits of one batch as often as the evaluation of the run has batches."""
    placed = place_batch(run.data.eval_batches[0], run.loop.mesh)

    def call() -> Any:
        logits = [image_logits(run, compiled, state, placed)]
        for _ in range(len(run.data.eval_batches) - 1):
            # As many at once as an evaluation can have: the one that is computed, and the one before.
            logits = [logits[-1], image_logits(run, compiled, state, placed)]
        return logits

    return call


def measure(flags: argparse.Namespace) -> dict[str, list[float]]:
    """Returns the seconds of each round, by what was timed."""
    runs = {name: make_run(flags, metrics) for name, metrics in EVALUATIONS.items()}
    first = runs["evaluation"]
    state = create_state(first, load_weights(first))
    programs = {name: compile_run(run, state) for name, run in runs.items()}
    calls: dict[str, Callable[[], Any]] = {FORWARD: forward_passes(first, programs["evaluation"], state)}
    for name, run in runs.items():
        calls[name] = functools.partial(evaluate, run, programs[name], state, shows_images=False)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(flags.rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            made = call()
            jax.block_until_ready(made.metrics if name in EVALUATIONS else made)
            seconds = time.perf_counter() - begin
            progress(f"round {number}: {name} {seconds:.2f} s" + " (with compiling)" * (number == 0))
            if number:
                found[name].append(seconds)
    return found


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shapes", help="the dataset (default: shapes)")
    parser.add_argument("--dir", default="", help="its folder")
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=64, help="number of images (default: 64)")
    parser.add_argument("--native", type=int, nargs=2, default=(375, 500), help="height and width of generated images")
    parser.add_argument("--model", default="plain_unet")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--size", type=int, default=128, help="height and width of the network's images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    compile_cache.enable()
    found = measure(flags)
    name = f"{flags.model}-{flags.encoder}" if flags.encoder else flags.model
    about = f"""`{name}` at {flags.size}x{flags.size}, batches of {flags.batch}, on {flags.images} images of
    `{flags.data}`, scored at their own resolution: the time relative to that of the forward passes alone."""
    rows = [[each, spread(found[each])["median"], ratios(found[each], found[FORWARD])] for each in found]
    parts: list[Part] = [text(about), table(["", "seconds", "ratio to the forward passes"], rows)]
    device = jax.devices()[0].device_kind
    versions = [f"jax {jax.__version__}"] + [device] * (device != "cpu")
    print_result(result("Evaluation at native resolution", parts, versions=versions, data=found))


if __name__ == "__main__":
    main()
