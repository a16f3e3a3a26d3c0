"""The output directory of an inspection: a page, its contact sheets, and the results as JSON."""

import json
from pathlib import Path

from flaxseg.errors import ArgumentError
from flaxseg.inspection.dataset import SHEET_FILES
from flaxseg.inspection.report import Flag, as_json, html_page
from flaxseg.inspection.results import Inspection
from flaxseg.report.drawing import save_png

_FILES = ("index.html", "inspection.json", *SHEET_FILES)
_MARK = {"written_by": "flaxseg.inspect_data"}
"""An entry of inspection.json that distinguishes earlier results, which may be overwritten, from a user's files."""


def prepare_output(output: Path) -> list[Path]:
    """Creates a directory, or checks that writing a report into it overwrites nothing but an earlier report.

    Returns:
      The directories that were created, the innermost first.

    Raises:
      ArgumentError: the directory cannot be created, or contains files with a report's names that are not a report.
    """
    if output.exists() and not output.is_dir():
        raise ArgumentError("output", str(output), "is a file; name a directory")
    created = [path for path in (output, *output.parents) if not path.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError("output", str(output), f"cannot be created ({error.strerror}); name another") from None
    existing = [name for name in _FILES if (output / name).exists()]
    if existing and not _is_report(output):
        problem = f"contains {', '.join(existing)}, which inspect_data did not write; name another directory"
        raise ArgumentError("output", str(output), problem)
    return created


def _is_report(output: Path) -> bool:
    try:
        return bool(json.loads((output / "inspection.json").read_text())["written_by"] == _MARK["written_by"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_report(output: Path, inspection: Inspection, flag: Flag) -> None:
    """Writes a report into a directory, in place of an earlier one.

    Args:
      output: the directory; see `prepare_output`.
      inspection: the results to report.
      flag: turns the arguments of settings into flags that can be pasted.
    """
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
    (output / "inspection.json").write_text(json.dumps(_MARK | as_json(inspection, flag), indent=1) + "\n")
    for sheet in inspection.sheets:
        save_png(output / sheet.file, sheet.pixels)
    (output / "index.html").write_text(html_page(inspection, flag), encoding="utf-8")
