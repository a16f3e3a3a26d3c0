"""What the commands have in common: `--config` with single keys set after it, and how a command ends."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flaxseg.errors import FlaxsegError


def config_parser(prog: str, *, description: str, epilog: str) -> argparse.ArgumentParser:
    """Returns a parser that knows `--config`, `--config.KEY` and `--verbose`; hand it to parse()."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="a file such as configs/pet.py")
    parser.add_argument("--config.KEY", metavar="VALUE", help="sets a key, such as --config.train.batch_size=16")
    parser.add_argument("--verbose", action="store_true", help="show the log messages of the libraries below")
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments, and `key=value` of each `--config.key=value` or `--config.key value`.

    Args:
      parser: from config_parser(), with the command's own arguments added.
      argv: the words after the command's name; None: those of this process.
    """
    overrides, rest = [], []
    remaining = iter(sys.argv[1:] if argv is None else argv)
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


def exit_status(run: Callable[[], int], *, interrupted: str) -> int:
    """Returns what `run` does, or 1 after a message for a user's mistake and 130 after Ctrl-C (says `interrupted`)."""
    try:
        return run()
    except FlaxsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130


def run_name(config: str) -> str:
    """Returns a folder's name for `FILE:VARIANT`: `pet-small` for `configs/pet.py:small`."""
    path, _, variant = config.partition(":")
    return "-".join(filter(None, (Path(path).stem, re.sub(r"[^\w.-]+", "-", variant))))


def quiet(verbose: bool) -> None:
    """Sets how much the libraries say; must come before TensorFlow is imported."""
    import os

    from absl import logging

    logging.set_verbosity(logging.INFO if verbose else logging.ERROR)
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # announced on stderr otherwise, and not used here
