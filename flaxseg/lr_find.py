"""Finds a learning rate by a range test: `python -m flaxseg.lr_find --config=configs/pet.py`."""

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from flaxseg import cli
from flaxseg.config.files import load_config
from flaxseg.config.validate import validate
from flaxseg.data.pipeline import iterate
from flaxseg.errors import ConfigError
from flaxseg.report import drawing
from flaxseg.train.build import compose, make_tx, run_key
from flaxseg.train.compile import compile_run, placed
from flaxseg.train.lr_range import RangeTest, plot, range_test, rising
from flaxseg.train.state import create, load_start

DESCRIPTION = """\
Trains for a few steps while the learning rate rises from very low to very high, and suggests one from how the loss
takes it (the range test of Smith 2017). Writes the plot and the losses; trains nothing that is kept.
"""

EPILOG = """\
examples:
  python -m flaxseg.lr_find --config=configs/pet.py
  python -m flaxseg.lr_find --config=configs/pet.py --lowest=1e-5 --highest=1 --steps=200 --config.optimizer.name=sgd
        any key of the configuration can be set, as for flaxseg.main
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: done; 1: something given to it cannot be used, and the message is on stderr; 130: stopped by Ctrl-C.
    """
    parser = cli.config_parser("python -m flaxseg.lr_find", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--lowest", type=float, default=1e-6, metavar="RATE", help="first rate (default: 1e-6)")
    parser.add_argument("--highest", type=float, default=1.0, metavar="RATE", help="last rate (default: 1)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="how many rates (default: 100)")
    parser.add_argument(
        "--output", metavar="DIR", help="where plot and losses are written (default: runs/lr- and the config's name)"
    )
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped; nothing was written")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    config = load_config(arguments.config, overrides)
    validate(config)
    if not 0 < arguments.lowest < arguments.highest < float("inf"):
        raise ConfigError(f"--lowest={arguments.lowest:g} --highest={arguments.highest:g}: must be above 0, and rise")
    if arguments.steps < 10:
        raise ConfigError(f"--steps={arguments.steps}: must be at least 10, to see how the loss goes")
    output = Path(arguments.output or Path("runs") / f"lr-{cli.run_name(arguments.config)}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output={output}: is no directory that can be made ({error.strerror})") from None
    cli.quiet(arguments.verbose)
    found = find(config, lowest=arguments.lowest, highest=arguments.highest, steps=arguments.steps)
    drawing.save(output / "learning_rates.png", plot(found))
    with (output / "learning_rates.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("learning_rate", "loss", "smoothed"))
        rows.writerows(zip(found.rates, found.losses, found.smoothed, strict=True))
    print(f"\nplot     {output / 'learning_rates.png'}\nlosses   {output / 'learning_rates.csv'}")
    if not found.falls:
        print("suggests nothing: the loss does not fall at any of these rates; try --lowest, --highest or more --steps")
        return 0
    print(f"suggests --config.optimizer.learning_rate={found.steepest:.1e}, where the loss falls fastest;")
    print(f"         {found.tenth_of_lowest:.1e} is a tenth of where it is lowest")
    return 0


def find(config: ConfigDict, *, lowest: float, highest: float, steps: int) -> RangeTest:
    """Returns the range test of the run that a valid configuration names, on its data and devices.

    Raises:
      ConfigError, DataError, WeightsError: as of train.train_and_evaluate().
      TrainingError: the loss is not finite from the beginning.
    """
    experiment = compose(config)
    schedule = rising(lowest, highest, steps)
    experiment = dataclasses.replace(experiment, schedule=schedule, tx=make_tx(config, schedule, experiment.scales))
    state = create(experiment, config, load_start(experiment, config))
    compiled = compile_run(experiment, state, config)
    stored = experiment.load_stored() if experiment.load_stored else {}
    key = run_key(config)

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        state, metrics = compiled.step(state, batch, key, stored)
        return state, metrics.loss.total

    reading = {"num_threads": config.data.num_threads, "prefetch": config.data.prefetch}
    batches = placed(iterate(experiment.train_batches, **reading), experiment.mesh)
    return range_test(step, state, batches, lowest=lowest, highest=highest, steps=steps)


if __name__ == "__main__":
    sys.exit(main())
