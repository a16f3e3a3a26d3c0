"""The confusion matrix as a heat map, and the most frequent confusions."""

from collections.abc import Sequence

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
    classes = len(names)
    side = next(side for most, side in _SIDES if classes <= most)
    fractions = ratio(counts, counts.sum(1, keepdims=True))
    shown = [shorten(name, 18) for name in names]
    size = 11 if side > 8 else 7
    left = 16 + 0.58 * size * max(map(len, shown))
    top = min(left, 16 + 0.42 * size * max(map(len, shown)) + size)
    width, height = left + side * classes + (top if classes > 1 else left) / 2 + 4, top + side * classes + 4
    text = [
        join(
            element(
                "text",
                name,
                class_="name end",
                x=left - 7,
                y=top + side * (i + 0.5) + size / 3,
                style=f"font-size:{size}px",
            ),
            element(
                "text",
                name,
                class_="name",
                style=f"font-size:{size}px",
                transform=_turned(left + side * (i + 0.5), top - 6),
            ),
        )
        for i, name in enumerate(shown)
    ]
    cells = []
    for row, column in _drawn(fractions):
        fraction = float(np.nan_to_num(fractions[row, column]))
        title = (
            f"true: {names[row]}\npredicted: {names[column]}\n{counts[row, column]:,} of {counts[row].sum():,} pixels "
            f"({percent(float(fractions[row, column]))})"
        )
        x, y = left + side * column, top + side * row
        kind = "cell right" if row == column else "cell wrong"
        cells.append(
            element(
                "rect",
                element("title", title),
                class_=kind,
                x=x,
                y=y,
                width=side - 1.5,
                height=side - 1.5,
                rx=2,
                fill_opacity=f"{0.06 + 0.94 * fraction:.3f}",
            )
        )
        if classes <= _MAX_WITH_NUMBERS and counts[row].any():
            color = "count on" if fraction > 0.55 else "count"
            position = {"x": x + side / 2 - 0.75, "y": y + side / 2 + 3.5}
            cells.append(element("text", f"{100 * fraction:.1f}", class_=color, **position))
    label = f"Confusion matrix of {classes} classes, in percent of each true class"
    return element(
        "svg", *text, *cells,
        class_="matrix", viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=label,
        style=f"max-width:{1.15 * width:.0f}px;min-width:{min(0.72 * width, 900):.0f}px",
    )  # fmt: skip


def _turned(x: float, y: float) -> str:
    return f"translate({x:.1f} {y:.1f}) rotate(-38)"


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
