"""The table of promises names tests that exist, and the certificate says which promises they show."""

import ast
from pathlib import Path

import pytest
from certificate import PAGE, Outcome, certificate, promises

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("test", sorted({test for promise in promises() for test in promise.tests}))
def test_the_tests_of_the_table_exist(test):
    file, _, function = test.partition("::")
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    assert not function or function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_table_is_read():
    table = PAGE.read_text("utf-8").partition("## Promises")[2].partition("\n## ")[0]
    assert len(promises()) == sum(line.startswith("| **") for line in table.splitlines()) > 10
    assert all(promise.figure and promise.tests for promise in promises())


def test_the_certificate_has_results_and_figures(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "## Promises\n| promise | figure | tests |\n|---|---|---|\n"
        "| **One** is `kept` | 1 | `a.py::test_one`, `b.py` |\n"
        "| Two | 2 | `a.py::test_two`, `a.py::test_one` |\n"
        "| Three | 3 | `c.py::test_three` |\n\n## Others\n| Four | 4 | `d.py` |\n"
    )
    outcomes = [
        Outcome("tests/a.py::test_one[x]", "passed", ("7 of 7",)),
        Outcome("tests/a.py::test_one[y]", "passed"),
        Outcome("tests/b.py::test_any", "skipped"),
        Outcome("tests/a.py::test_two", "failed"),
        Outcome("tests/a.py::test_one_more", "failed"),
    ]
    assert certificate(outcomes, page=page).splitlines() == [
        "kept       One is kept",
        "           2 passed, 1 skipped",
        "           7 of 7",
        "BROKEN     Two",
        "           2 passed, 1 failed",
        "           7 of 7",
        "NOT SHOWN  Three",
        "           0 passed",
        "           not run: c.py::test_three",
    ]
