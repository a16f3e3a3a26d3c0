"""Writes RESULTS.md from the JSON files of the folder results/: `python benchmarks/results.py`.

Each file is one section, in the order of the files' names, in the form that measuring.py describes. The output of a
script becomes a section with `python benchmarks/compare.py --peer PYTHON > benchmarks/results/10_networks.json`.
"""

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
HEAD = """\
# Results

Ratios of alternating runs on one machine. Absolute times depend on the machine and its load. Each section names the
command that measures it; `python benchmarks/results.py` writes this page from the files in `benchmarks/results/`.
"""
NOT_MEASURED = "not measured"


def page(folder: Path) -> str:
    """Returns the page with a section for each JSON file in a folder."""
    files = sorted(folder.glob("*.json"))
    return "\n".join([HEAD, *(section(json.loads(path.read_text(encoding="utf-8"))) for path in files)])


def section(result: Mapping[str, Any]) -> str:
    """Returns the section of a result, in Markdown."""
    blocks = [f"## {result['title']}", *(_part(part) for part in result["parts"])]
    about = "; ".join(filter(None, (result.get(key) for key in ("date", "machine", "versions"))))
    if about:
        blocks.append(_filled(f"*Recorded: {about}.*"))
    return "\n\n".join(blocks) + "\n"


def cell(value: Any) -> str:
    """Returns a cell of a table: text as it is, a spread with its lowest and highest value, null as "not measured"."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, Mapping):
        median, lowest, highest = (f"{value[key]:.2f}" for key in ("median", "lowest", "highest"))
        return median if lowest == highest else f"{median} ({lowest} to {highest})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _part(part: Mapping[str, Any]) -> str:
    if "text" in part:
        return _filled(part["text"])
    if "command" in part:
        return "\n".join(f"    {line}" for line in part["command"])
    return "\n".join(_table(part))


def _table(part: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield "| " + " | ".join(part["columns"]) + " |"
    yield "|---" * len(part["columns"]) + "|"
    for row in part["rows"]:
        yield "| " + " | ".join(map(cell, row)) + " |"


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Writes or prints the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="print the sections of these files, and write nothing")
    flags = parser.parse_args()
    if flags.files:
        print("\n".join(section(json.loads(path.read_text(encoding="utf-8"))) for path in flags.files))
        return
    (FOLDER / "RESULTS.md").write_text(page(FOLDER / "results"), encoding="utf-8")


if __name__ == "__main__":
    main()
