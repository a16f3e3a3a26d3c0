"""Trains a network: `python -m flaxseg.main --config=configs/pet.py --workdir=DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxseg import cli

DESCRIPTION = """\
Trains a segmentation network as a configuration says, evaluates it and keeps its checkpoints.
A run that was stopped goes on where it was when the same command is given again.
"""

EPILOG = """\
examples:
  python -m flaxseg.main --config=configs/shapes.py
        the embedded dataset: nothing to download
  python -m flaxseg.main --config=configs/pet.py:small --workdir=runs/try
        a variant of a configuration
  python -m flaxseg.main --config=configs/folder.py --config.data.dir=DIR --config.train.epochs=20
        pictures and masks of your own; any key of the configuration can be set
  python -m flaxseg.main --config=configs/pet.py --print_config
        every key with its value, and nothing else
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: done; 1: something given to it cannot be used, and the message is on stderr; 128 and a signal's number: stopped
    by that signal.
    """
    parser = cli.config_parser("python -m flaxseg.main", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--workdir", metavar="DIR", help="where everything is kept (default: runs/ and the config's name)"
    )
    parser.add_argument("--print_config", action="store_true", help="check, print every KEY = VALUE, and stop")
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped before training began")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from flaxseg.config.files import load_config
    from flaxseg.config.schema import leaves
    from flaxseg.config.validate import validate

    config = load_config(arguments.config, overrides)
    validate(config)
    if arguments.print_config:
        for key, value in leaves(config):
            print(f"{key} = {value!r}")
        return 0
    cli.quiet(arguments.verbose)
    from flaxseg.train.loop import train_and_evaluate

    workdir = Path(arguments.workdir or Path("runs") / cli.run_name(arguments.config))
    result = train_and_evaluate(config, workdir)
    print(f"\n{result.table()}\n")
    print(f"pictures      {workdir / 'pictures'}")
    best = "none is scored yet" if result.best_step is None else f"best: step {result.best_step}"
    print(f"checkpoints   {workdir / 'checkpoints'} ({best})")
    print(f"TensorBoard   tensorboard --logdir {workdir}")
    for message in result.skipped:
        print(f"skipped       {message}")
    if result.stopped_early:
        print(
            f"ended at step {int(result.state.step)}: {config.checkpoint.best_metric} was last better at step "
            f"{result.best_step} (config.train.early_stop = {config.train.early_stop})"
        )
    if result.stopped_by:
        print(f"stopped at step {int(result.state.step)}; the same command goes on from there", file=sys.stderr)
        return 128 + result.stopped_by
    return 0


if __name__ == "__main__":
    sys.exit(main())
