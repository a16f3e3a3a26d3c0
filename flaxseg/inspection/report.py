"""The report of an inspection: plain text for the terminal, an HTML page, and JSON."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from flaxseg.inspection.findings import Finding, Setting
from flaxseg.inspection.results import Inspection
from flaxseg.inspection.tables import class_table, facts_table

Flag = Callable[[str, Any], str]
"""(argument, value) -> the flag of the command line that sets it, such as `--config.data.skip_bad=4`."""

_OPTIONAL = "Optional settings: training works without them; choose at most one of several class weights"

_MAX_UNUSABLE_ON_PAGE = 500
_MAX_UNUSABLE_ON_TERMINAL = 10


def terminal_text(inspection: Inspection, flag: Flag) -> str:
    """Returns tables, settings, findings and the verdict as plain text.

    Args:
      inspection: the results to report.
      flag: turns the arguments of settings into flags that can be pasted.
    """
    parts = [_aligned(rows) for rows in (facts_table(inspection), class_table(inspection)) if len(rows) > 1]
    parts += [f"{_OPTIONAL}:"] if inspection.settings else []
    parts += [f"{setting.when}:\n  {_flags(setting, flag)}" for setting in inspection.settings]
    for finding in inspection.findings:
        lines = [f"{finding.severity}: {finding.text}"]
        lines += [f"  {setting.when}:\n    {_flags(setting, flag)}" for setting in finding.settings]
        parts.append("\n".join(lines))
    unusable = inspection.unusable
    if unusable:
        more = len(unusable) - _MAX_UNUSABLE_ON_TERMINAL
        tail = [f"  and {more} more, listed on the page"] if more > 0 else []
        shown = [f"  {text}" for text in unusable[:_MAX_UNUSABLE_ON_TERMINAL]]
        parts.append("\n".join(["unusable examples:", *shown, *tail]))
    return "\n\n".join([*parts, inspection.verdict])


def _flags(setting: Setting, flag: Flag) -> str:
    return " ".join(flag(argument, value) for argument, value in setting.arguments.items())


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


def html_page(inspection: Inspection, flag: Flag) -> str:
    """Returns a complete HTML page that refers to the contact sheets by their file names.

    Args:
      inspection: the results to report.
      flag: turns the arguments of settings into flags that can be pasted.
    """
    title = escape(inspection.title)
    kind = "ok" if inspection.trainable else "error"
    body = [f"<h1>{title}</h1>", f'<p class="{kind}"><b>{escape(inspection.verdict)}</b></p>']
    if inspection.findings:
        items = [_finding_html(finding, flag) for finding in inspection.findings]
        body += ["<h2>Findings</h2>", "<ul>", *items, "</ul>"]
    body += ["<h2>Examples</h2>", _table_html(facts_table(inspection))]
    classes = class_table(inspection)
    if len(classes) > 1:
        body += ["<h2>Classes</h2>", _table_html(classes, _swatches(inspection))]
    if inspection.settings:
        items = [_setting_html(setting, flag) for setting in inspection.settings]
        body += ["<h2>Optional settings</h2>", f"<p>{_OPTIONAL}:</p>", "<ul>", *items, "</ul>"]
    unusable = inspection.unusable
    if unusable:
        items = [f"<li>{escape(text)}</li>" for text in unusable[:_MAX_UNUSABLE_ON_PAGE]]
        body += [f"<h2>Unusable examples: {len(unusable):,}</h2>", "<ul>", *items, "</ul>"]
    for sheet in inspection.sheets:
        image = f'<p><img src="{escape(sheet.file)}" alt="{escape(sheet.title)}"></p>'
        body += [f"<h2>{escape(sheet.title)}</h2>", image]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return "\n".join(["<!DOCTYPE html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""])


def _finding_html(finding: Finding, flag: Flag) -> str:
    settings = "".join(_setting_html(setting, flag) for setting in finding.settings)
    text = f'<b class="{finding.severity}">{finding.severity}</b> {escape(finding.text)}'
    return f"<li>{text}{f'<ul>{settings}</ul>' if settings else ''}</li>"


def _setting_html(setting: Setting, flag: Flag) -> str:
    return f"<li>{escape(setting.when)}: <code>{escape(_flags(setting, flag))}</code></li>"


def _table_html(rows: Sequence[Sequence[str]], prefixes: Sequence[str] = ()) -> str:
    """Returns a table with a heading; `prefixes` is HTML to put into the first cell of each row after the heading."""
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in rows[0]) + "</tr>"]
    for prefix, (first, *others) in zip(prefixes or [""] * (len(rows) - 1), rows[1:], strict=True):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f"<tr><td>{prefix}{escape(first)}</td>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _swatches(inspection: Inspection) -> list[str]:
    palette = next(split.dataset.palette for split in inspection.splits if split.dataset and not split.error)
    return [f'<span class="swatch" style="background: rgb{color}"></span>' for color in palette]


def as_json(inspection: Inspection, flag: Flag) -> dict[str, Any]:
    """Returns tables, findings and settings as values that `json.dumps` accepts.

    Args:
      inspection: the results to report.
      flag: turns the arguments of settings into flags that can be pasted.
    """
    return {
        "title": inspection.title,
        "trainable": inspection.trainable,
        "findings": [
            {
                "severity": finding.severity,
                "text": finding.text,
                "settings": [[setting.when, _flags(setting, flag)] for setting in finding.settings],
            }
            for finding in inspection.findings
        ],
        "settings": {setting.when: _flags(setting, flag) for setting in inspection.settings},
        "facts": facts_table(inspection),
        "classes": class_table(inspection),
        "unusable": inspection.unusable,
    }
