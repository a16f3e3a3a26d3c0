"""RESULTS.md is what its files say, and shows what was not measured."""

import json

from measuring import ROOT
from results import FOLDER, page, section


def test_the_page_is_generated_from_its_files():
    assert (FOLDER / "RESULTS.md").read_text(encoding="utf-8") == page(FOLDER / "results"), (
        "run python benchmarks/results.py"
    )


def test_every_command_names_a_script_that_exists():
    commands = [
        line
        for path in (FOLDER / "results").glob("*.json")
        for part in json.loads(path.read_text(encoding="utf-8"))["parts"]
        for line in part.get("command", [])
        if "benchmarks/" in line
    ]
    assert len(commands) > 10
    for command in commands:
        script = next(word for word in command.split() if word.startswith("benchmarks/"))
        assert (ROOT / script).is_file(), command


def test_a_section_shows_spreads_and_what_was_not_measured():
    spread = {"median": 1.234, "lowest": 0.996, "highest": 2.0}
    single = {"median": 1.5, "lowest": 1.5, "highest": 1.5}
    rows = [["a", spread, single], ["b", None, 0.123456], ["c", 3, "0.70"]]
    parts = [
        {"text": "word " * 30}, {"columns": ["name", "x", "y"], "rows": rows}, {"command": ["python a", "python b"]},
    ]  # fmt: skip
    about = {"date": "2026-01-02", "machine": "2 cores", "versions": ""}
    first, second = " ".join(["word"] * 24), " ".join(["word"] * 6)
    assert (
        section({"title": "Speed", "parts": parts, **about})
        == f"""\
## Speed

{first}
{second}

| name | x | y |
|---|---|---|
| a | 1.23 (1.00 to 2.00) | 1.50 |
| b | not measured | 0.1235 |
| c | 3 | 0.70 |

    python a
    python b

*Recorded: 2026-01-02; 2 cores.*
"""
    )
