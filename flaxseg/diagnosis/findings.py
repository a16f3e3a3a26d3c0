"""What an examination finds: rows, notes and problems, under a title; and their text and JSON."""

import dataclasses
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flaxseg.errors import FlaxsegError

_WIDTH = 120


@dataclasses.dataclass(frozen=True)
class Row:
    """A fact.

    Attributes:
      name: what it is about, such as a package.
      text: the fact, such as a version.
    """

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that a user may want to know, though nothing is wrong.

    Attributes:
      text: one line.
    """

    text: str


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
      text: what is wrong with which thing; one line.
      remedy: what to do about it; one line.
    """

    text: str
    remedy: str


Finding = Row | Note | Problem
Check = Callable[[], Iterator[Finding]]
"""A function that examines one thing and yields what it finds, as it finds it."""


@dataclasses.dataclass(frozen=True)
class Section:
    """The findings of one check.

    Attributes:
      title: what was examined.
      findings: in the order in which they were found.
    """

    title: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems among the findings."""
        return tuple(finding for finding in self.findings if isinstance(finding, Problem))


def examine(title: str, check: Check) -> Section:
    """Returns what a check finds; one that raises an exception yields a problem, and what it found before is kept.

    Args:
      title: what is examined.
      check: examines it.
    """
    found: list[Finding] = []
    try:
        # One by one, so that what was found before an exception is not lost.
        for finding in check():
            found.append(finding)
    except FlaxsegError as error:
        found.append(Problem(one_line(error), "see the message"))
    except Exception as error:
        what = f"this check failed unexpectedly ({type(error).__name__}: {one_line(error)})"
        found.append(Problem(what, "the other checks are unaffected; please report it as a bug of flaxseg"))
    return Section(title, tuple(found))


def section_text(section: Section) -> str:
    """Returns a section as text for a terminal."""
    names = [finding.name for finding in section.findings if isinstance(finding, Row)]
    width = max(map(len, names), default=0)
    lines = [section.title]
    for finding in section.findings:
        match finding:
            case Row(name, text):
                lines.append(_wrapped(text, f"  {name:<{width}}  "))
            case Note(text):
                lines.append(_wrapped(text, "  note: "))
            case Problem(text, remedy):
                lines += [_wrapped(text, "  PROBLEM: "), _wrapped(remedy, "    -> ")]
    return "\n".join(lines)


def conclusion(sections: Sequence[Section]) -> str:
    """Returns the last line of a report: whether anything is wrong."""
    count = sum(len(section.problems) for section in sections)
    if not count:
        return "healthy: no problems found"
    where = ", ".join(section.title for section in sections if section.problems)
    return f"{count} {'problem' if count == 1 else 'problems'}, in: {where}"


def to_json(sections: Sequence[Section]) -> dict[str, Any]:
    """Returns a report as JSON holds it: `healthy`, and `sections` with their `rows`, `notes` and `problems`."""
    return {
        "healthy": not any(section.problems for section in sections),
        "sections": [
            {
                "title": section.title,
                "rows": [dataclasses.asdict(finding) for finding in section.findings if isinstance(finding, Row)],
                "notes": [finding.text for finding in section.findings if isinstance(finding, Note)],
                "problems": [{"problem": problem.text, "remedy": problem.remedy} for problem in section.problems],
            }
            for section in sections
        ],
    }


def one_line(error: BaseException) -> str:
    """Returns the message of an exception on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _wrapped(text: str, prefix: str) -> str:
    indent = " " * len(prefix)
    return textwrap.fill(text, _WIDTH, initial_indent=prefix, subsequent_indent=indent, break_on_hyphens=False)
