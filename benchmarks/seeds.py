"""Times three seeds that are trained together against one run, and prints JSON.

`python benchmarks/seeds.py --config shapes --seeds 3 --steps 30 --rounds 3` trains one run and several seeds in turn,
each from the configuration to its last checkpoint with one evaluation at the end, and prints the ratio of their median
times for the whole run and for its steps alone, after the first one. Any key of the configuration can be set, as in
`train.batch_size=4`. Absolute times depend on the machine and its load; quote ratios.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
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
    """Prints the medians and their ratios."""
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
    one, several = (np.median(times[count], axis=0) for count in counts)
    found = {
        "config": [arguments.config, *arguments.overrides],
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "steps": steps,
        "seeds": arguments.seeds,
        "one_run": dict(zip(("whole", "steps"), one.round(3).tolist(), strict=True)),
        "together": dict(zip(("whole", "steps"), several.round(3).tolist(), strict=True)),
        "ratio": dict(zip(("whole", "steps"), (several / one).round(3).tolist(), strict=True)),
        "rounds": {str(count): np.round(times[count], 3).tolist() for count in counts},
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
