"""Times three seeds that are trained together against one run, and prints JSON.

`python benchmarks/seeds.py --config shapes --seeds 3 --steps 30 --rounds 3` trains one run and several seeds in turn,
each from the configuration to its last checkpoint with one evaluation at the end, and prints the ratios of their times
for the whole run and for its steps alone, after the first one. Any key of the configuration can be set, as in
`train.batch_size=4`.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from measuring import Part, print_result, ratios, result, table, text
from ml_collections import ConfigDict

from flaxseg import compile_cache
from flaxseg.config.files import load_config
from flaxseg.train.callbacks import Callback
from flaxseg.train.loop import train_and_evaluate
from flaxseg.train.members import train_together
from flaxseg.train.step_metrics import TrainMetrics


class Clock(Callback):
    """Measures the time from the end of the first step to the end of the last."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.ends: list[float] = []

    def on_step(self, step: int, metrics: TrainMetrics) -> None:
        """Waits for the first step, and for the last."""
        if step in (1, self._steps):
            jax.block_until_ready(metrics.loss.total)
            self.ends.append(time.perf_counter())


def seconds(config: ConfigDict, count: int) -> tuple[float, float]:
    """Returns the seconds of a run, or of several seeds, and those of its steps."""
    clocks = [Clock(config.train.steps) for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        if count == 1:
            train_and_evaluate(config, Path(folder) / "run", callbacks=clocks)
        else:
            config = config.copy_and_resolve_references()
            config.train.seeds = tuple(range(count))
            own = {f"seed-{seed}": clock for seed, clock in enumerate(clocks)}
            train_together(config, Path(folder) / "run", callbacks=lambda name: [own[name]])
        whole = time.perf_counter() - begin
    first, last = (max(clock.ends[i] for clock in clocks) for i in range(2))
    return whole, last - first


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shapes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    compile_cache.enable()
    steps = arguments.steps
    fixed = [f"train.steps={steps}", f"eval.every={steps}", f"log.every={steps}", "log.writer=tensorboard"]
    config = load_config(arguments.config, ["optimizer.warmup_steps=0", *fixed, *arguments.overrides])
    counts = (1, arguments.seeds)
    for count in counts:
        seconds(config, count)  # Compiles.
    times: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    for _ in range(arguments.rounds):
        for count in counts:
            times[count].append(seconds(config, count))
    shares = [[run[part] for run in times[count]] for part in (0, 1) for count in counts]
    whole, only_steps = ratios(shares[1], shares[0]), ratios(shares[3], shares[2])
    kind = " ".join([arguments.config, *arguments.overrides])
    about = f"""{arguments.seeds} seeds of `{kind}` in one program, relative to one run: {steps} steps of
    {config.train.batch_size} images and one evaluation, from the configuration to the last checkpoint, with the
    programs compiled before; and the steps alone, after the first. Below {arguments.seeds}, one command is faster than
    {arguments.seeds}, even without the compilation that it saves."""
    row = [jax.devices()[0].device_kind, whole, only_steps]
    parts: list[Part] = [text(about), table(["device", "time of the whole", "time of the steps"], [row])]
    print_result(result("Several seeds together", parts, versions=[f"jax {jax.__version__}"], data=times))


if __name__ == "__main__":
    main()
