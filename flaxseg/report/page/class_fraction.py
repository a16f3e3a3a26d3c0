"""The IoU of each class by its fraction of the pixels."""

import numpy as np

from flaxseg.metrics import iou
from flaxseg.metrics.ratios import ratio
from flaxseg.report.page.content import PageContent
from flaxseg.report.page.html import Html, element, percent, shorten
from flaxseg.report.page.plot import WIDTH, Plot, figure, log_axis, unit_axis

_CHARACTER, _LINE = 7.4, 13
"""The width of a character, on average and in a wide font, and the height of a line in a chart."""


def class_fraction(content: PageContent) -> Html | None:
    """Returns the figure of IoU by fraction of pixels; None if no class has labeled pixels."""
    if not content.counts.any():
        return None
    note = "Lines are 95 % intervals. Rare classes are learned from few pixels, and each error weighs more."
    return figure("IoU by fraction of pixels", by_fraction(content), note=note)


def by_fraction(content: PageContent) -> Html:
    """Returns a scatter plot of the IoU of each class by its fraction of the labeled pixels."""
    fractions, values = ratio(content.counts.sum(1), content.counts.sum()), iou(content.counts)
    present = np.flatnonzero((fractions > 0) & np.isfinite(values)).tolist()
    axis = log_axis("fraction of the labeled pixels", fractions[present].min(), 1 / 1.1, text=_percent_tick)
    plot = Plot(axis, unit_axis("IoU"))
    lines, dots, boxes = [], [], []
    for i in present:
        fraction, value, bounds = float(fractions[i]), float(values[i]), content.intervals["iou"][:, i].tolist()
        title = f"{content.class_names[i]}\nIoU {value:.3f}\n{percent(fraction)} of the pixels"
        if np.isfinite(bounds).all():
            lines.append(plot.line((fraction, fraction), bounds, class_="whisker"))
        dots.append(plot.dot(fraction, value, title=title, radius=4.5))
        boxes.append((plot.px(fraction), plot.py(value), shorten(content.class_names[i], 16)))
    return plot.svg(
        *lines, *dots, *_labels(boxes), label="Scatter plot of the IoU of classes by their fraction of pixels"
    )


def _percent_tick(value: float) -> str:
    return f"{100 * value:g} %"


def _labels(points: list[tuple[float, float, str]]) -> list[Html]:
    """Returns the names beside their points, of those that find a free place."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in points]
    labels = []
    for x, y, name in points:
        width = _CHARACTER * len(name)
        for left, kind in ((x + 8, "name"), (x - 8 - width, "name end")):
            box = (left, y - _LINE / 2, left + width, y + _LINE / 2)
            if box[0] > 40 and box[2] < WIDTH and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                labels.append(element("text", name, class_=kind, x=left if kind == "name" else x - 8, y=y + 4))
                break
    return labels


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
