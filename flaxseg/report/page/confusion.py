"""The confusion matrix as a heat map, and the most frequent confusions."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flaxseg.metrics.ratios import ratio
from flaxseg.report.page.content import PageContent
from flaxseg.report.page.html import Html, element, join, percent, shorten

_MAX_WITH_NUMBERS = 12
_MAX_CELLS = 2500
"""The largest number of cells that are drawn; of larger matrices, those with the largest fractions."""

_SIDES = ((5, 62), (_MAX_WITH_NUMBERS, 46), (40, 18), (255, 8))
"""The side of a cell, for up to so many classes."""

_LISTED = 8


def largest_confusions(counts: np.ndarray, number: int) -> list[tuple[int, int, int]]:
    """Returns the most frequent pairs of a true class, another predicted class, and their number of pixels.

    Args:
      counts: int64[K, K], pixels by true class (rows) and predicted class (columns).
      number: how many to return at most; pairs that never occur are omitted.
    """
    wrong = counts - np.diag(np.diagonal(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    pairs = (divmod(int(index), len(counts)) for index in order)
    return [(true, predicted, int(wrong[true, predicted])) for true, predicted in pairs if wrong[true, predicted]]


def confusion(content: PageContent) -> Html:
    """Returns the section of the confusion matrix."""
    names, counts = content.class_names, content.counts
    note = "Rows are true classes and add up to 100 %. Hover over a cell for its number of pixels."
    matrix = element(
        "figure",
        element("figcaption", "Where pixels of each class end up"),
        element("div", heat_map(counts, names), class_="scroll"),
        element("p", note, class_="note"),
        class_="card",
    )
    return element(
        "section",
        element("h2", "Confusion"),
        element("div", matrix, _listed(counts, names), class_="columns wide-first"),
    )


def heat_map(counts: np.ndarray, names: Sequence[str]) -> Html:
    """Returns the heat map of the fractions of each true class, as SVG; the number of pixels is shown on hover.

    Args:
      counts: int64[K, K], pixels by true class (rows) and predicted class (columns).
      names: one name per class.
    """
    grid = _make_grid(names)
    fractions = ratio(counts, counts.sum(1, keepdims=True))
    cells = [_cell(counts, fractions, names, grid, row, column) for row, column in _drawn(fractions)]
    label = f"Confusion matrix of {len(names)} classes, in percent of each true class"
    return element(
        "svg", _names(names, grid), *cells,
        class_="matrix", viewBox=f"0 0 {grid.width:.0f} {grid.height:.0f}", role="img", aria_label=label,
        style=f"max-width:{1.15 * grid.width:.0f}px;min-width:{min(0.72 * grid.width, 900):.0f}px",
    )  # fmt: skip


class _Grid(NamedTuple):
    """Where the cells of a heat map are."""

    left: float
    top: float
    side: int
    """That of a cell."""
    font: int
    """The size of names."""
    angle: int
    """That of the names above the columns, in degrees."""
    width: float
    """That of the whole drawing."""
    height: float


def _make_grid(names: Sequence[str]) -> _Grid:
    side = next(side for most, side in _SIDES if len(names) <= most)
    font = 11 if side > 8 else 7
    length = 0.58 * font * max(len(_short(name)) for name in names)
    # Names above narrow columns are steeper, so that they do not overlap.
    angle = 38 if side > 30 else 60
    left, top = 16 + length, 16 + font + 1.1 * length * math.sin(math.radians(angle))
    # The last name above the columns leans out to the right.
    beyond = max(length * math.cos(math.radians(angle)) + 8 - side / 2, 4)
    return _Grid(left, top, side, font, angle, left + side * len(names) + beyond, top + side * len(names) + 4)


def _short(name: str) -> str:
    return shorten(name, 18)


def _names(names: Sequence[str], grid: _Grid) -> Html:
    """Returns the names of the classes beside the rows and above the columns."""
    texts = []
    style = f"font-size:{grid.font}px"
    for index, name in enumerate(names):
        middle = grid.side * (index + 0.5)
        y, turned = (
            grid.top + middle + grid.font / 3,
            f"translate({grid.left + middle:.1f} {grid.top - 6:.1f}) rotate(-{grid.angle})",
        )
        texts.append(element("text", _short(name), class_="name end", x=grid.left - 7, y=y, style=style))
        texts.append(element("text", _short(name), class_="name", transform=turned, style=style))
    return join(*texts)


def _cell(
    counts: np.ndarray, fractions: np.ndarray, names: Sequence[str], grid: _Grid, row: int, column: int
) -> Html:  # fmt: skip
    """Returns a cell, whose opacity is its fraction, with the fraction as a number if there is room for it."""
    fraction = float(np.nan_to_num(fractions[row, column]))
    title = (
        f"true: {names[row]}\npredicted: {names[column]}\n{counts[row, column]:,} of {counts[row].sum():,} pixels "
        f"({percent(float(fractions[row, column]))})"
    )
    x, y, side = grid.left + grid.side * column, grid.top + grid.side * row, grid.side - 1.5
    rect = element(
        "rect", element("title", title), class_="cell right" if row == column else "cell wrong",
        x=x, y=y, width=side, height=side, rx=2, fill_opacity=f"{0.06 + 0.94 * fraction:.3f}",
    )  # fmt: skip
    if len(names) > _MAX_WITH_NUMBERS or not counts[row].any():
        return rect
    kind = "count on" if fraction > 0.55 else "count"
    return join(rect, element("text", f"{100 * fraction:.1f}", class_=kind, x=x + side / 2, y=y + side / 2 + 4))


def _drawn(fractions: np.ndarray) -> list[tuple[int, int]]:
    """Returns the cells that are drawn: all, or of a large matrix the largest ones and the diagonal."""
    classes = len(fractions)
    if classes**2 <= _MAX_CELLS:
        return list(np.ndindex(classes, classes))
    values = np.nan_to_num(fractions) + np.eye(classes)
    order = np.argsort(-values, axis=None, kind="stable")[:_MAX_CELLS]
    return [divmod(int(index), classes) for index in order if values.flat[index] > 0]


def _listed(counts: np.ndarray, names: Sequence[str]) -> Html:
    """Returns the most frequent confusions as a list."""
    total, wrong = counts.sum(), counts.sum() - np.trace(counts)
    items = []
    for true, predicted, pixels in largest_confusions(counts, _LISTED):
        fraction = pixels / wrong
        items.append(
            element(
                "li",
                element("span", element("b", names[true]), " \u2192 ", names[predicted], class_="pair"),
                element("span", percent(fraction), class_="figure", title=f"{pixels:,} pixels"),
                element("i", class_="meter", style=f"width:{100 * fraction:.1f}%"),
            )
        )
    if not items:
        return element("figure", element("figcaption", "Most frequent errors"), element("p", "None."), class_="card")
    note = f"True \u2192 predicted class, in percent of all {wrong:,} wrong pixels ({percent(wrong / total)} of all)."
    return element(
        "figure",
        element("figcaption", "Most frequent errors"),
        element("ol", *items, class_="ranking"),
        element("p", note, class_="note"),
        class_="card",
    )
