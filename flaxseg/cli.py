"""Code that the commands share: `--config`, keys set on the command line, help on keys, and the exit status."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flaxseg import compile_cache, interrupts
from flaxseg.errors import FlaxsegError

_SIGPIPE = 13
"""The number of the signal that ends other programs whose output nothing reads."""

_STORAGE_REMEDY = "check the path, whether it should be a file or a folder, its permissions, and the free space"


def command_parser(prog: str, *, description: str, epilog: str) -> argparse.ArgumentParser:
    """Returns a parser whose help shows the description and the examples as they are.

    Args:
      prog: the command as typed in a shell, such as `flaxseg train`.
      description: what the command does.
      epilog: examples.
    """
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def config_parser(prog: str, *, description: str, epilog: str, required: bool = True) -> argparse.ArgumentParser:
    """Returns a parser of `--config`, `--config.KEY`, `--help_config` and `--verbose`, for use with parse().

    Args:
      prog: the command as typed in a shell, such as `flaxseg train`.
      description: what the command does.
      epilog: examples.
      required: whether `--config` is required.
    """
    parser = command_parser(prog, description=description, epilog=epilog)
    parser.add_argument(
        "--config",
        metavar="NAME[:VARIANT]",
        help=f"configuration{' (required)' if required else ''}: a name such as pet, a file of your own such as my.py, "
        "or a run such as runs/pet",
    )
    parser.add_argument("--config.KEY", metavar="VALUE", help="set a key, as in --config.train.batch_size=16")
    parser.add_argument(
        "--help_config",
        nargs="?",
        const="",
        metavar="PREFIX",
        help="describe all keys, those of a section such as optimizer, or the options in a group such as "
        "model.options, and exit",
    )
    parser.add_argument("--verbose", action="store_true", help="show the log messages of JAX and other libraries")
    parser.set_defaults(config_is_required=required)
    return parser


def add_models(parser: argparse.ArgumentParser, words: str) -> None:
    """Adds the trained networks that a command takes, `MODEL` or `--model=MODEL`, for use with models().

    Args:
      parser: the parser of the command.
      words: what may be given, for the help.
    """
    parser.add_argument("model", metavar="MODEL", nargs="*", default=[], help=words)
    parser.add_argument(
        "--model", dest="named", metavar="MODEL", nargs="+", action="extend", default=[], help="the same as MODEL"
    )


def models(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[str]:
    """Returns the networks given by the arguments of `add_models`, at least one.

    Raises:
      SystemExit: there is none (status 2).
    """
    found: list[str] = arguments.model + arguments.named
    if not found:
        parser.error(f"which network? Give a run or another MODEL, as in {parser.prog} runs/pet")
    return found


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how a trained network predicts: `--step`, `--accept_license`, `--scales`, ..."""
    add = parser.add_argument
    add("--step", metavar="N", type=int, help="step of a run's checkpoint (default: the best)")
    add("--accept_license", action="store_true", help="accept a non-commercial or custom license of public weights")
    add("--scales", metavar="X,...", type=_numbers, default=(1.0,), help="average over copies of these scales")
    add(
        "--flips",
        metavar="NAME,...",
        type=_names,
        default=(),
        help="average over flipped copies: horizontal, vertical, both",
    )
    add("--tile", metavar="N", type=int, help="side of the tiles of large images (default: as trained)")


def inference_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `add_inference_options` as the arguments of `flaxseg.load`."""
    return {name: getattr(arguments, name) for name in ("step", "accept_license", "scales", "flips", "tile")}


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments, and `key=value` for each `--config.key=value` or `--config.key value`.

    With `--help_config` it prints the help and exits instead.

    Args:
      parser: from config_parser(), with the command's own arguments added.
      argv: the words after the command's name; None: those of this process.

    Raises:
      SystemExit: wrong arguments (status 2), or `--help_config` was given (status 0, or 1 for an unknown prefix).
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
            if value.startswith("--") or value == "=":
                parser.error(f"{argument} has no value; write {argument}=VALUE, without spaces")
            overrides.append(f"{match[1]}={value}")
    arguments, unknown = parser.parse_known_args(rest)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_key_hint(unknown)}")
    if arguments.help_config is not None:
        parser.exit(exit_status(lambda: _print_help(arguments, overrides), interrupted=""))
    if arguments.config is None and arguments.config_is_required:
        parser.error("--config is required; for example, --config=shapes, or --config=folder --config.data.dir=DIR")
    return arguments, overrides


def exit_status(run: Callable[[], int], *, interrupted: str) -> int:
    """Calls a command's function and returns the command's exit status.

    Args:
      run: does the command's work and returns its exit status.
      interrupted: the message for a command that Ctrl-C interrupts.

    Returns:
      The status of `run`; 1 after a FlaxsegError, whose message is printed to stderr, or after a file could not be
      accessed; 130 after Ctrl-C; 141 where nothing reads what is printed any more, as after `| head`.
    """
    try:
        status = run()
        sys.stdout.flush()
        return status
    except FlaxsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _discard_output()
        return 128 + _SIGPIPE
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}; {_STORAGE_REMEDY}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        interrupts.exit_if_command(130)
        return 130


def run_name(config: str) -> str:
    """Returns the name of a run's folder for `--config`.

    It is `pet-small` for `pet:small` and `configs/pet.py:small`, and that of the run itself, `pet`, for `runs/pet` and
    `runs/pet/config.json`.
    """
    if Path(config).is_dir() or Path(config).name == "config.json":
        return (Path(config) if Path(config).is_dir() else Path(config).parent).resolve().name
    path, _, variant = config.partition(":")
    return "-".join(filter(None, (Path(path).stem, re.sub(r"[^\w.-]+", "-", variant))))


def prepare(*, verbose: bool) -> None:
    """Prepares the process for a command's work; must be called before TensorFlow is imported, or a program compiled.

    Args:
      verbose: show the log messages of other libraries.
    """
    from absl import logging

    logging.set_verbosity(logging.INFO if verbose else logging.ERROR)
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TensorFlow announces oneDNN on stderr; unused here.
    compile_cache.enable()


def _key_hint(arguments: Sequence[str]) -> str:
    """Returns how the first of these arguments that looks like a key of the configuration is set."""
    from flaxseg.config.other_names import called_here

    names = (re.fullmatch(r"-{1,2}(\w+)(?:=.*)?", each, re.DOTALL) for each in arguments)
    if hint := next(filter(None, (called_here(name[1]) for name in names if name)), ""):
        return f"{hint}; keys of the configuration are set by --config.KEY=VALUE"
    keys = (re.fullmatch(r"-{0,2}(?:config\.)?(\w+(?:\.\w+)+)(?:=(.*))?", each, re.DOTALL) for each in arguments)
    key = next(filter(None, keys), None)
    return (
        f"; keys of the configuration are set by --config.KEY=VALUE, as in --config.{key[1]}={key[2] or 'VALUE'}"
        if key
        else ""
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be numbers, as in 0.75,1,1.25") from None


def _print_help(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    from flaxseg.config.files import load_config, override
    from flaxseg.config.help import config_help
    from flaxseg.config.schema import default_config

    if arguments.config is None:
        config = default_config()
        override(config, overrides)
    else:
        config = load_config(arguments.config, overrides)
    try:
        print(config_help(config, arguments.help_config), flush=True)
    except BrokenPipeError:
        _discard_output()
    return 0


def _discard_output() -> None:
    """Discards further output; a reader such as `head` has closed the pipe, and flushing at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
