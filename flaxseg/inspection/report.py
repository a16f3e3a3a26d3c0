"""What an inspection of a dataset found, as text for the terminal, as an HTML page, and as JSON."""

import dataclasses
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from flaxseg.data.statistics import Statistics
from flaxseg.data.types import SegmentationDataset
from flaxseg.inspection.findings import Finding, Setting

_MOST_PROBLEMS = 500
"""So many examples that cannot be used are listed on the page; the terminal shows a few."""

_ON_TERMINAL = 10


@dataclasses.dataclass(frozen=True)
class Split:
    """One of the two splits of an inspection.

    Attributes:
      role: `train` or `eval`.
      name: what the dataset calls it.
      error: why it cannot be opened; "" where it can.
      dataset: None where it cannot be opened.
      statistics: what was read; beside an error, of its masks' bare values, so that only sizes and problems count.
    """

    role: str
    name: str
    error: str = ""
    dataset: SegmentationDataset | None = None
    statistics: Statistics | None = None


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything that an inspection found.

    Attributes:
      title: what was inspected.
      splits: that to train on and that to evaluate on.
      findings: what is wrong or worth knowing.
      settings: for pasting: class weights and the pictures' mean and deviation, each under its name.
      pictures: titles and file names of the contact sheets, beside the page.
    """

    title: str
    splits: Sequence[Split]
    findings: Sequence[Finding]
    settings: Sequence[Setting] = ()
    pictures: Sequence[tuple[str, str]] = ()

    @property
    def trainable(self) -> bool:
        """Whether the dataset can be trained on."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One sentence."""
        count = {kind: sum(f.severity == kind for f in self.findings) for kind in ("error", "warning")}
        if not self.trainable:
            return f"This dataset cannot be trained on as it is: {count['error']} error(s)."
        return "This dataset can be trained on" + (f"; {count['warning']} warning(s)." if count["warning"] else ".")


def terminal_text(inspection: Inspection) -> str:
    """Returns tables, findings and settings as plain text."""
    parts = [_aligned(rows) for rows in (facts_table(inspection), class_table(inspection)) if len(rows) > 1]
    parts += [f"{setting.when}:\n  {setting.flags}" for setting in inspection.settings]
    for finding in inspection.findings:
        lines = [f"{finding.severity}: {finding.text}"]
        lines += [f"  {setting.when}:\n    {setting.flags}" for setting in finding.settings]
        parts.append("\n".join(lines))
    problems = _problems(inspection)
    if problems:
        more = len(problems) - _ON_TERMINAL
        tail = [f"  and {more} more, on the page"] if more > 0 else []
        parts.append("\n".join(["cannot be used:", *(f"  {text}" for text in problems[:_ON_TERMINAL]), *tail]))
    return "\n\n".join([*parts, inspection.verdict])


def facts_table(inspection: Inspection) -> list[list[str]]:
    """Returns rows of texts: a heading, then one for each fact, with a column for each split that was read."""
    splits = [split for split in inspection.splits if split.statistics is not None]
    columns = [_facts(split) for split in splits]
    heading = ["", *(f"{split.role} ({split.name})" for split in splits)]
    return [heading, *([name, *(column[name] for column in columns)] for name in (columns[0] if columns else ()))]


def _facts(split: Split) -> dict[str, str]:
    statistics = split.statistics
    assert statistics is not None
    facts = {"examples": f"{statistics.num_examples:,}", "of these unusable": f"{len(statistics.problems):,}"}
    for axis, name in enumerate(("height", "width")):
        facts[name] = _range(statistics.sizes[:, axis])
    facts["channels"] = ", ".join(map(str, np.unique(statistics.channels)))
    facts["picture values"] = "{:g} to {:g}".format(*statistics.value_range) if statistics.ids else "-"
    facts["picture values"] += ", not 8 bit" if statistics.wide.any() else ""
    facts["mean"], facts["deviation"] = _numbers(statistics.mean), _numbers(statistics.std)
    # Of bare mask values the classes are not known, and so not what is ignored.
    facts["ignored pixels"] = "-" if split.error or not statistics.ids else f"{statistics.ignored_share:.2%}"
    facts["all-ignored masks"] = "-" if split.error else f"{len(statistics.all_ignored):,}"
    return facts


def _range(lengths: np.ndarray) -> str:
    if not len(lengths):
        return "-"
    low, middle, high = (f"{value:.0f}" for value in np.percentile(lengths, (0, 50, 100)))
    quarter, three_quarters = (f"{value:.0f}" for value in np.percentile(lengths, (25, 75)))
    return low if low == high else f"{low} to {high} (quarters {quarter}, {middle}, {three_quarters})"


def _numbers(values: np.ndarray | None) -> str:
    return "-" if values is None else ", ".join(f"{value:.1f}" for value in values)


def class_table(inspection: Inspection) -> list[list[str]]:
    """Returns rows of texts: a heading, then one for each class with its pixels and pictures in each split."""
    splits = [split for split in inspection.splits if not split.error]
    heading, columns = ["class"], []
    names: tuple[str, ...] = ()
    for split in splits:
        assert split.dataset is not None and split.statistics is not None
        names = names or split.dataset.class_names
        heading += [f"{split.role} pixels", f"{split.role} pictures"]
        columns += [[f"{share:.2%}" for share in split.statistics.shares]]
        columns += [[f"{number:,}" for number in split.statistics.occurrences]]
    # The splits of a dataset that cannot be trained on may differ in their classes.
    columns = [column for column in columns if len(column) == len(names)]
    return [heading[: len(columns) + 1], *(list(row) for row in zip(names, *columns, strict=True))]


def _problems(inspection: Inspection) -> list[str]:
    """What cannot be used, those of the splits in turn; the files are named in each message."""
    return [
        f"{split.role} {problem.place}: {problem.message}"
        for split in inspection.splits
        if split.statistics is not None
        for problem in split.statistics.problems
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{row[0]:<{widths[0]}}  " + "  ".join(map(str.rjust, row[1:], widths[1:])) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .15em .9em; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #f4f4f4 }
code { background: #f0f0f0; padding: .1em .3em; display: inline-block; overflow-wrap: anywhere; user-select: all }
img { max-width: 100%; border: 1px solid #ddd } li { margin: .4em 0; white-space: pre-wrap; overflow-wrap: anywhere }
.error { color: #a40000 } .warning { color: #8a5a00 } .swatch { display: inline-block; width: 1em; height: 1em;
margin-right: .5em; vertical-align: -.1em; border: 1px solid #888 }
"""


def html_page(inspection: Inspection) -> str:
    """Returns a whole page; it needs nothing but the contact sheets beside it."""
    title = escape(inspection.title)
    kind = "ok" if inspection.trainable else "error"
    body = [f"<h1>{title}</h1>", f'<p class="{kind}"><b>{escape(inspection.verdict)}</b></p>']
    if inspection.findings:
        body += ["<h2>Findings</h2>", "<ul>", *map(_finding_html, inspection.findings), "</ul>"]
    body += ["<h2>Examples</h2>", _table_html(facts_table(inspection))]
    classes = class_table(inspection)
    if len(classes) > 1:
        body += ["<h2>Classes</h2>", _table_html(classes, _swatches(inspection))]
    if inspection.settings:
        body += ["<h2>To paste</h2>", "<ul>", *map(_setting_html, inspection.settings), "</ul>"]
    problems = _problems(inspection)
    if problems:
        items = [f"<li>{escape(text)}</li>" for text in problems[:_MOST_PROBLEMS]]
        body += [f"<h2>Cannot be used: {len(problems):,}</h2>", "<ul>", *items, "</ul>"]
    for caption, file in inspection.pictures:
        shown = f'<p><img src="{escape(file)}" alt="{escape(caption)}"></p>'
        body += [f"<h2>{escape(caption)}</h2>", shown]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return "\n".join(["<!DOCTYPE html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""])


def _finding_html(finding: Finding) -> str:
    settings = "".join(_setting_html(setting) for setting in finding.settings)
    text = f'<b class="{finding.severity}">{finding.severity}</b> {escape(finding.text)}'
    return f"<li>{text}{f'<ul>{settings}</ul>' if settings else ''}</li>"


def _setting_html(setting: Setting) -> str:
    return f"<li>{escape(setting.when)}: <code>{escape(setting.flags)}</code></li>"


def _table_html(rows: Sequence[Sequence[str]], before: Sequence[str] = ()) -> str:
    """The first row is the heading; `before` is put in front of each other row's first cell."""
    marks = before or [""] * (len(rows) - 1)
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in rows[0]) + "</tr>"]
    for mark, (first, *others) in zip(marks, rows[1:], strict=True):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f"<tr><td>{mark}{escape(first)}</td>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _swatches(inspection: Inspection) -> list[str]:
    palette = next(split.dataset.palette for split in inspection.splits if split.dataset and not split.error)
    return [f'<span class="swatch" style="background: rgb{color}"></span>' for color in palette]


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Returns the numbers and findings as plain values."""
    return {
        "title": inspection.title,
        "trainable": inspection.trainable,
        "findings": [dataclasses.asdict(finding) for finding in inspection.findings],
        "settings": {setting.when: setting.flags for setting in inspection.settings},
        "facts": facts_table(inspection),
        "classes": class_table(inspection),
        "unusable": _problems(inspection),
    }
