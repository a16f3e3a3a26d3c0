"""Finds a learning rate by a range test: `flaxseg lr-find --config=pet`."""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxseg import cli, interrupts
from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError
from flaxseg.report.drawing import save_png
from flaxseg.report.figures import learning_rate_figure
from flaxseg.train.build import build
from flaxseg.train.lr_range import RangeTest, rising_schedule, sweep_learning_rates

DESCRIPTION = """\
Trains for a few steps while the learning rate rises from very low to very high, and suggests a learning rate from the
loss at each rate (the range test of Smith 2017). Writes a plot and the losses; no checkpoint is kept.
"""

EPILOG = """\
examples:
  flaxseg lr-find --config=pet
  flaxseg lr-find --config=pet --lowest=1e-5 --highest=1 --steps=200 --config.optimizer.name=sgd
        any key of the configuration can be set, as for flaxseg train
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: done; 1: invalid input, with a message on stderr; 130: stopped by Ctrl-C.
    """
    parser = cli.config_parser("flaxseg lr-find", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--lowest", type=float, default=1e-6, metavar="RATE", help="first rate (default: 1e-6)")
    parser.add_argument("--highest", type=float, default=1.0, metavar="RATE", help="last rate (default: 1)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="number of rates (default: 100)")
    parser.add_argument(
        "--output", metavar="DIR", help="directory of the plot and the losses (default: runs/lr- and the config's name)"
    )
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped; nothing was written")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    interrupts.raise_from_now_on()
    lowest, highest, steps = arguments.lowest, arguments.highest, arguments.steps
    if not 0 < lowest < highest < float("inf"):
        raise ConfigError(
            f"--lowest={lowest:g} --highest={highest:g}: must be above 0 and finite, the lower rate first"
        )
    if steps < 10:
        raise ConfigError(f"--steps={steps}: must be at least 10, so that the trend of the loss is visible")
    config = load_config(arguments.config, overrides)
    cli.prepare(verbose=arguments.verbose)
    config.train.steps_per_call = 1
    run = build(config, schedule=rising_schedule(lowest, highest, steps))
    output = Path(arguments.output or Path("runs") / f"lr-{cli.run_name(arguments.config)}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output={output}: the directory cannot be created ({error.strerror})") from None
    found = sweep_learning_rates(run, lowest=lowest, highest=highest, steps=steps)
    _write(output, found)
    print(f"\nplot     {output / 'learning_rates.png'}\nlosses   {output / 'learning_rates.csv'}")
    if not found.falls:
        print("suggests nothing: the loss does not fall at any of these rates; try --lowest, --highest or more --steps")
        return 0
    print(f"suggests --config.optimizer.learning_rate={found.steepest:.1e}, where the loss falls fastest;")
    print(f"         {found.tenth_of_lowest:.1e} is a tenth of the rate with the lowest loss")
    return 0


def _write(output: Path, found: RangeTest) -> None:
    suggestions = {"steepest": found.steepest, "a tenth of the rate at the minimum": found.tenth_of_lowest}
    save_png(
        output / "learning_rates.png", learning_rate_figure(found.rates, found.losses, found.smoothed, suggestions)
    )
    with (output / "learning_rates.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("learning_rate", "loss", "smoothed"))
        rows.writerows(zip(found.rates, found.losses, found.smoothed, strict=True))


if __name__ == "__main__":
    sys.exit(main())
