"""The details of the report: every score, licenses, versions, the command and the configuration."""

from collections.abc import Iterator, Mapping
from typing import Any

from flaxseg.report.page.content import PageContent
from flaxseg.report.page.html import Html, data, element


def details(content: PageContent) -> Html:
    """Returns the section of the details, which are folded except for licenses and versions."""
    scores = {name: data(value, digits=6) for name, value in content.scores.items()}
    return element(
        "section",
        element("h2", "Details"),
        element(
            "div",
            _card("License of the weights", content.licenses),
            _card("Software", content.versions),
            class_="columns",
        ),
        _folded("All scores", _table(scores)),
        _folded("Configuration", _table(dict(_leaves(content.config)))) if content.config else None,
        _folded("Command", element("pre", content.command)) if content.command else None,
    )


def _card(title: str, entries: Mapping[str, str]) -> Html:
    return element("figure", element("figcaption", title), _table(entries), class_="card")


def _folded(title: str, *content: Html) -> Html:
    return element("details", element("summary", title), *content, class_="card")


def _table(entries: Mapping[str, Any]) -> Html:
    rows = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in entries.items()]
    return element("table", element("tbody", *rows), class_="pairs")


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the keys of a nested configuration, such as `train.steps`, with their values."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value) if value != "" else "\u2013"
