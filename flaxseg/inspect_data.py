"""Checks and shows a dataset without training: `python -m flaxseg.inspect_data --config=configs/pet.py`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flaxseg import cli
from flaxseg.config.files import load_config
from flaxseg.config.validate import validate
from flaxseg.errors import ConfigError
from flaxseg.inspection import report
from flaxseg.inspection.splits import SHEETS, inspect_splits
from flaxseg.report import drawing

DESCRIPTION = """\
Reads every picture and mask of a configuration's dataset and tells what was found, without training: sizes, shares
of the classes, class weights, files that cannot be used, mask values without a class, pictures that are there twice,
and the settings that would repair what is wrong. Writes a page with pictures of the labels and of the batches as the
network sees them.

exit status: 0, the dataset can be trained on, perhaps with warnings; 1, it cannot, or an argument is wrong;
130, stopped by Ctrl-C.
"""

EPILOG = """\
examples:
  python -m flaxseg.inspect_data --config=configs/shapes.py
        the embedded dataset
  python -m flaxseg.inspect_data --config=configs/folder.py --config.data.dir=DIR --output=runs/look
        pictures and masks of your own; any key of the configuration can be set, as for flaxseg.main
"""

_FILES = ("index.html", "inspection.json", *SHEETS)
_MARK = {"written_by": "flaxseg.inspect_data"}
"""Stands in inspection.json and tells files that may be written over from a user's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: the dataset can be trained on; 1: it cannot, or something given to the command cannot be used, and the
    message is on stderr; 130: stopped by Ctrl-C.
    """
    parser = cli.config_parser("python -m flaxseg.inspect_data", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--output", metavar="DIR", help="where the page is written (default: runs/inspect- and the config's name)"
    )
    parser.add_argument(
        "--pictures", metavar="N", type=int, default=24, help="pictures shown of each split (default: 24)"
    )
    arguments, overrides = cli.parse(parser, argv)
    return cli.exit_status(lambda: _run(arguments, overrides), interrupted="stopped; nothing was written")


def _run(arguments: argparse.Namespace, overrides: list[str]) -> int:
    config = load_config(arguments.config, overrides)
    validate(config)
    if arguments.pictures < 0:
        raise ConfigError(f"--pictures={arguments.pictures}: must be at least 0")
    output = Path(arguments.output or Path("runs") / f"inspect-{cli.run_name(arguments.config)}")
    _check_output(output)
    cli.quiet(arguments.verbose)
    title = f"{config.data.name} ({arguments.config})"
    inspection, sheets = inspect_splits(config, title=title, most=arguments.pictures)
    _write(output, inspection, sheets)
    print(f"\n{report.terminal_text(inspection)}\n\nreport  {output / 'index.html'}")
    return 0 if inspection.trainable else 1


def _check_output(output: Path) -> None:
    """Refuses a directory whose files this command would write over without having written them."""
    there = [name for name in _FILES if (output / name).exists()]
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output={output}: is a file; name a directory")
    if not there:
        return
    try:
        mark = json.loads((output / "inspection.json").read_text())["written_by"]
    except (OSError, ValueError, KeyError, TypeError):
        mark = ""
    if mark != _MARK["written_by"]:
        raise ConfigError(f"--output={output}: holds {', '.join(there)} of another origin; name another directory")


def _write(output: Path, inspection: report.Inspection, sheets: Mapping[str, np.ndarray]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
    (output / "inspection.json").write_text(json.dumps(_MARK | report.as_json(inspection), indent=1) + "\n")
    for name, sheet in sheets.items():
        drawing.save(output / name, sheet)
    (output / "index.html").write_text(report.html_page(inspection), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
