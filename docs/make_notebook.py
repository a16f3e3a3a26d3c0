"""Writes a notebook from its source, a Python file whose cells begin with `# %%`: `python docs/make_notebook.py`.

Of the source, the docstring is left out. `# %% [markdown]` begins a cell of text, whose lines are comments.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "examples" / "segmentation.py"

_METADATA = {
    "colab": {"provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(source: str) -> dict[str, Any]:
    """Returns a notebook of version 4.5 without outputs.

    Args:
      source: the text of the Python file.
    """
    _, *parts = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)
    cells = []
    for number, (marker, text) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        is_text = marker.strip() == "[markdown]"
        lines = text.strip("\n").split("\n")
        cell: dict[str, Any] = {"cell_type": "markdown" if is_text else "code", "id": f"cell-{number:02d}"}
        # Colab hides the code of a cell with a title, and shows its form alone.
        cell["metadata"] = {"cellView": "form"} if lines[0].startswith("# @title") else {}
        if not is_text:
            cell |= {"execution_count": None, "outputs": []}
        shown = [re.sub("^# ?", "", line) for line in lines] if is_text else lines
        cell["source"] = "\n".join(shown).splitlines(keepends=True)
        cells.append(cell)
    return {"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5}


def written(source: str) -> str:
    """Returns the notebook as the text of a file."""
    return json.dumps(notebook(source), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    path = SOURCE.with_suffix(".ipynb")
    path.write_text(written(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
    print(path, file=sys.stderr)
