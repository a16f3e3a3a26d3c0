"""All commands as one: `flaxseg COMMAND`, or `python -m flaxseg COMMAND`."""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "train": ("main", "train a network"),
    "evaluate": ("evaluate", "score a trained or public network"),
    "predict": ("predict", "predict masks of images and videos"),
    "export": ("export", "write a network as ONNX, StableHLO or safetensors"),
    "inspect": ("inspect_data", "check a dataset, and look at it"),
    "lr-find": ("lr_find", "find a learning rate"),
    "doctor": ("doctor", "check the installation, the devices, or a run"),
    "models": ("models", "list networks and encoders"),
}
"""For each command, the module `flaxseg.MODULE` that it stands for, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command, and returns its exit status.

    Args:
      argv: the name of the command, and its arguments; None: those of this process.
    """
    if argv is None and not sys.flags.safe_path and os.getcwd() not in (os.path.abspath(each) for each in sys.path):
        # Modules of one's own are found there, as with `python -m`, but take the place of no others.
        sys.path.append(os.getcwd())
    name, *arguments = [*(sys.argv[1:] if argv is None else argv), ""]
    arguments = arguments[:-1]
    if name in ("", "-h", "--help"):
        print(_usage())
        return 0
    if name not in COMMANDS:
        from flaxseg.errors import did_you_mean

        print(f"error: flaxseg {name}: no such command{did_you_mean(name, COMMANDS)}\n\n{_usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"flaxseg.{COMMANDS[name][0]}")
    if name == "models":
        module = importlib.import_module("flaxseg.models.__main__")
    status: int = module.main(arguments)
    return status


def _usage() -> str:
    lines = [f"  {name:<10} {meaning}" for name, (_, meaning) in COMMANDS.items()]
    return "\n".join(["usage: flaxseg COMMAND ...", "", *lines, "", "flaxseg COMMAND --help describes a command."])


if __name__ == "__main__":
    sys.exit(main())
