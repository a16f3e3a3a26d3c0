"""The certificate that `make soak` prints: each promise of docs/reliability.md, with what its tests found."""

import dataclasses
import hashlib
import importlib.metadata
import platform
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "flaxseg"

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"

FIGURE = "figure"
"""The property in which a test records the figure that it reached: `record_property(FIGURE, "20 of 20")`."""


@dataclasses.dataclass(frozen=True)
class Promise:
    """A row of the table of promises: the promise, the figure reached, and the tests, by file and perhaps function."""

    text: str
    figure: str
    tests: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of one test, `passed`, `failed` or `skipped`, and the figures that it recorded."""

    test: str
    outcome: str
    figures: tuple[str, ...] = ()


def promises(page: Path = PAGE) -> list[Promise]:
    """Returns the rows of the table of promises."""
    section = page.read_text(encoding="utf-8").partition("## Promises")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!promise|-)(.+?) \| (.+?) \| (`.+?`) \|$", section, re.MULTILINE)
    return [Promise(text, figure, tuple(re.findall(r"`([^`]+)`", tests))) for text, figure, tests in rows]


def header() -> str:
    """Returns what was tested: versions, and the digest of the package's code."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode() + file.read_bytes())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "orbax-checkpoint"))
    return f"Python {platform.python_version()}, {versions}; SHA-256 of flaxseg/: {digest.hexdigest()}"


def certificate(outcomes: list[Outcome], *, page: Path = PAGE) -> str:
    """Returns the table of promises as text, with the outcomes of their tests and the figures these recorded."""
    lines = []
    for promise in promises(page):
        found = [outcome for outcome in outcomes if any(_covers(test, outcome.test) for test in promise.tests)]
        missing = [test for test in promise.tests if not any(_covers(test, outcome.test) for outcome in found)]
        counts = {word: sum(each.outcome == word for each in found) for word in ("passed", "failed", "skipped")}
        is_kept = counts["passed"] and not counts["failed"] and not missing
        mark = "kept" if is_kept else "BROKEN" if counts["failed"] else "NOT SHOWN"
        lines.append(f"{mark:9}  {re.sub(r'[*`]', '', promise.text)}")
        lines.append(
            "           "
            + ", ".join(f"{number} {word}" for word, number in counts.items() if number or word == "passed")
        )
        lines += [f"           not run: {test}" for test in missing]
        lines += [f"           {figure}" for each in found for figure in each.figures]
    return "\n".join(lines)


def _covers(named: str, test: str) -> bool:
    """Returns whether a name in the table, a file or function, covers a test such as `tests/x.py::test_y[1]`."""
    path, _, function = test.removeprefix("tests/").partition("::")
    return named in (path, f"{path}::{function.partition('[')[0]}")


if __name__ == "__main__":
    print(*sorted({f"tests/{test.partition('::')[0]}" for promise in promises() for test in promise.tests}))
