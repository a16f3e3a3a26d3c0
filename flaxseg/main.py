"""Trains a network: `python -m flaxseg.main --config=configs/pet.py --workdir=DIR`."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = """\
Trains a segmentation network as a configuration says, evaluates it and keeps its checkpoints.
A run that was stopped goes on where it was when the same command is given again.
"""

EPILOG = """\
examples:
  python -m flaxseg.main --config=configs/shapes.py
        the embedded data set: nothing to download
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
    from flaxseg.errors import FlaxsegError

    arguments, overrides = _parse(list(sys.argv[1:] if argv is None else argv))
    try:
        return _run(arguments, overrides)
    except FlaxsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped before training began", file=sys.stderr)
        return 130


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments, and `key=value` of each `--config.key=value` or `--config.key value`."""
    parser = argparse.ArgumentParser(
        prog="python -m flaxseg.main",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="a file such as configs/pet.py")
    parser.add_argument("--config.KEY", metavar="VALUE", help="sets a key, such as --config.train.batch_size=16")
    parser.add_argument(
        "--workdir", metavar="DIR", help="where everything is kept (default: runs/ and the config's name)"
    )
    parser.add_argument("--print_config", action="store_true", help="check, print every KEY = VALUE, and stop")
    parser.add_argument("--verbose", action="store_true", help="show the log messages of the libraries below")
    overrides, rest = [], []
    remaining = iter(argv)
    for argument in remaining:
        match = re.fullmatch(r"--?config\.([^=]+)(=.*)?", argument, re.DOTALL)
        if match is None:
            rest.append(argument)
        elif match[2] is not None:
            overrides.append(match[1] + match[2])
        else:
            value = next(remaining, "--")
            if value.startswith("--"):
                parser.error(f"{argument} has no value: give one, as in {argument}=VALUE")
            overrides.append(f"{match[1]}={value}")
    return parser.parse_args(rest), overrides


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    from flaxseg.config import leaves, validate
    from flaxseg.config_files import load_config

    config = load_config(arguments.config, overrides)
    validate(config)
    if arguments.print_config:
        for key, value in leaves(config):
            print(f"{key} = {value!r}")
        return 0
    _quiet(arguments.verbose)
    from flaxseg.train import train_and_evaluate

    path, _, variant = arguments.config.partition(":")
    name = "-".join(filter(None, (Path(path).stem, re.sub(r"[^\w.-]+", "-", variant))))
    workdir = Path(arguments.workdir or Path("runs") / name)
    result = train_and_evaluate(config, workdir)
    print(f"\n{result.table()}\n")
    print(f"pictures      {workdir / 'pictures'}")
    print(f"checkpoints   {workdir / 'checkpoints'} (best: step {result.best_step})")
    print(f"TensorBoard   tensorboard --logdir {workdir}")
    if result.stopped_by:
        print(f"stopped at step {int(result.state.step)}; the same command goes on from there", file=sys.stderr)
        return 128 + result.stopped_by
    return 0


def _quiet(verbose: bool) -> None:
    """Sets how much the libraries say; must come before TensorFlow is imported."""
    import os

    from absl import logging

    logging.set_verbosity(logging.INFO if verbose else logging.ERROR)
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # announced on stderr otherwise, and not used here


if __name__ == "__main__":
    sys.exit(main())
