"""The scores of each class: IoU with its interval as bars, Dice, precision, recall and the fraction of pixels."""

import math

import numpy as np

from flaxseg import metrics
from flaxseg.metrics.ratios import ratio
from flaxseg.report.page.bars import interval_track, swatch
from flaxseg.report.page.content import PageContent
from flaxseg.report.page.html import Html, data, element, percent

_COLUMNS = ("Class", "IoU", "", "95 % interval", "Dice", "Precision", "Recall", "Pixels", "Images")


def classes(content: PageContent) -> Html:
    """Returns the section of the classes: a table with bars, in the order of the classes."""
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in _COLUMNS)))
    rows = [_row(content, index) for index in range(len(content.class_names))]
    table = element("table", head, element("tbody", *rows), class_="classes")
    note = (
        "Each score is computed from all pixels of the dataset. Pixels: the fraction of the labeled pixels. Images: "
        "the number whose label contains the class; intervals from few images are too narrow."
    )
    return element(
        "section", element("h2", "Classes"), element("div", table, class_="card"), element("p", note, class_="note")
    )


def _row(content: PageContent, index: int) -> Html:
    counts, bounds = content.counts, content.intervals["iou"][:, index]
    iou = float(metrics.iou(counts)[index])
    scores = {
        name: (float(score(counts)[index]), content.intervals[name.lower()][:, index])
        for name, score in (("Dice", metrics.dice), ("Precision", metrics.precision), ("Recall", metrics.recall))
    }
    fraction = float(ratio(counts.sum(1), counts.sum())[index])
    name = content.class_names[index]
    between = [data(bounds[0]), "\u2013", data(bounds[1])] if np.isfinite(bounds).all() else ["\u2013"]
    cells = [
        element(
            "th",
            element("div", swatch(content.palette[index]), element("span", name, class_="class"), class_="named"),
            scope="row",
        ),
        element("td", data(iou), class_="iou", data_label="IoU"),
        element("td", interval_track(iou, bounds) if math.isfinite(iou) else None, class_="bar"),
        element("td", *between, class_="between", data_label="95 %"),
    ]
    for title, (value, limits) in scores.items():
        hover = f"95 % interval {limits[0]:.3f} to {limits[1]:.3f}" if np.isfinite(limits).all() else None
        cells.append(_meter(title, data(value), value, hover))
    cells.append(_meter("Pixels", percent(fraction), fraction, f"{counts[index].sum():,} pixels"))
    cells.append(element("td", f"{content.images_of_class[index]:,}", data_label="Images"))
    return element("tr", *cells)


def _meter(title: str, text: Html | str, value: float, hover: str | None) -> Html:
    """Returns a cell with a thin bar of a length of 0..1 below its text."""
    length = f"--v:{value:.4f}" if math.isfinite(value) else None
    return element("td", text, class_="metered", style=length, title=hover, data_label=title)
