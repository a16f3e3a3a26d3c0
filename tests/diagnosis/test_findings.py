"""Reports as text and JSON, and checks that fail unexpectedly."""

import pytest

from flaxseg.data.memory import size_text
from flaxseg.diagnosis.findings import (
    Note,
    Problem,
    Row,
    Section,
    conclusion,
    examine,
    section_text,
    to_json,
)
from flaxseg.errors import DataError

SECTION = Section("disk", (Row("free", "1 GiB"), Row("kind", "ext4"), Note("is old"), Problem("is full", "empty it")))
HEALTHY = Section("memory", (Row("free", "1 GiB"),))


def test_a_report_aligns_its_rows_and_puts_the_remedy_below_the_problem():
    assert section_text(SECTION) == (
        "disk\n  free  1 GiB\n  kind  ext4\n  note: is old\n  PROBLEM: is full\n    -> empty it"
    )
    assert conclusion([HEALTHY]) == "healthy: no problems found"
    assert conclusion([SECTION, HEALTHY]) == "1 problem, in: disk"


def test_long_lines_are_wrapped_below_their_beginning():
    lines = section_text(Section("a", (Row("name", "word " * 60),))).splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 120
    assert lines[2].startswith(" " * len("  name  ") + "word")


def test_json_has_everything():
    assert to_json([HEALTHY])["healthy"] is True
    assert to_json([SECTION]) == {
        "healthy": False,
        "sections": [
            {
                "title": "disk",
                "rows": [{"name": "free", "text": "1 GiB"}, {"name": "kind", "text": "ext4"}],
                "notes": ["is old"],
                "problems": [{"problem": "is full", "remedy": "empty it"}],
            }
        ],
    }


@pytest.mark.parametrize(("error", "text"), [
    (KeyError("a\nb"), "this check failed unexpectedly (KeyError: 'a\\nb')"),
    (RuntimeError(), "this check failed unexpectedly (RuntimeError: RuntimeError)"),
    (DataError("a.png: is\n  empty"), "a.png: is empty"),
])  # fmt: skip
def test_a_check_that_fails_is_a_problem_and_keeps_what_it_found(error, text):
    def check():
        yield Row("first", "1")
        raise error

    section = examine("title", check)
    assert section.findings[0] == Row("first", "1")
    (problem,) = section.problems
    assert problem.text == text


@pytest.mark.parametrize(("size", "text"), [
    (0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (233 * 2**20, "233 MiB"), (2.5 * 2**40, "2.5 TiB"),
    (2**60, "1048576 TiB"),
])  # fmt: skip
def test_sizes_have_a_unit(size, text):
    assert size_text(size) == text
