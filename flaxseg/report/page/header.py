"""The head of the report: what was evaluated, on what, and the scores in large figures."""

import math

import numpy as np

from flaxseg.metrics import iou
from flaxseg.metrics.bootstrap import RESAMPLES
from flaxseg.report.page.bars import interval_track
from flaxseg.report.page.confusion import largest_confusions
from flaxseg.report.page.content import PageContent
from flaxseg.report.page.html import Html, data, element, join, percent

_TILES = (
    ("miou", "miou", "mIoU", "mean over classes, all pixels pooled"),
    ("mean_dice", "mean_dice", "Mean Dice", "mean over classes, all pixels pooled"),
    ("pixel_accuracy", "pixel_accuracy", "Pixel accuracy", "correct pixels"),
    ("per_image/miou", "image_miou", "IoU per image", "mean over images"),
    ("calibration/ece", "", "Calibration error", "expected (ECE); 0 is best"),
)
"""The name of a score, that of its interval, and the title and text of its tile."""


def header(content: PageContent) -> Html:
    """Returns the title of the report and the facts about what was evaluated."""
    pixels = int(content.counts.sum())
    facts = {
        "Images": f"{len(content.images.ids):,}",
        "Labeled pixels": f"{pixels / 1e6:,.1f} million" if pixels >= 1e5 else f"{pixels:,}",
        **content.facts,
    }
    entries = [element("div", element("dt", name), element("dd", value)) for name, value in facts.items()]
    return element(
        "header",
        element("p", "Evaluation report", class_="eyebrow"),
        element("h1", content.network),
        element("p", element("b", content.title), " on ", element("b", content.data), class_="lede"),
        element("dl", *entries, class_="facts"),
    )


def headline(content: PageContent) -> Html:
    """Returns the main scores with their intervals, and the findings that they hide."""
    tiles = [_tile(content, *tile) for tile in _TILES if tile[0] in content.scores]
    note = (
        f"Bars show 95 % intervals: the percentile bootstrap over the {len(content.images.ids):,} images, with "
        f"{RESAMPLES:,} resamples (Efron & Tibshirani 1993). They say how much a score would vary with other images of "
        "the same kind, not with another training."
    )
    return element(
        "section",
        element("h2", "Scores"),
        element("div", *tiles, class_="tiles"),
        _findings(content),
        element("p", note, class_="note"),
    )


def _tile(content: PageContent, name: str, interval: str, title: str, text: str) -> Html:
    value, bounds = content.scores[name], content.intervals.get(interval, np.full(2, math.nan))
    between = track = None
    if np.isfinite(bounds).all():
        between = element("p", data(bounds[0]), " \u2013 ", data(bounds[1]), class_="between")
        track = interval_track(value, bounds)
    return element(
        "div",
        element("h3", title),
        element("p", data(value), class_="value"),
        track,
        between,
        element("p", text, class_="note"),
        class_="tile card" + (" main" if name == "miou" else ""),
    )


def _findings(content: PageContent) -> Html | None:
    values = iou(content.counts)
    found: list[Html] = []
    if np.isfinite(values).sum() > 1:
        best, worst = int(np.nanargmax(values)), int(np.nanargmin(values))
        for text, index in (("The best class is ", best), ("; the worst is ", worst)):
            found.append(join(text, element("b", content.class_names[index]), f" (IoU {values[index]:.3f})"))
        found.append(Html(". "))
    for true, predicted, pixels in largest_confusions(content.counts, 1):
        fraction = pixels / content.counts.sum()
        names = (element("b", content.class_names[index]) for index in (true, predicted))
        found.append(join(next(names), " predicted as ", next(names), " is the most frequent error: "))
        found.append(join(f"{percent(fraction)} of all pixels."))
    return element("p", *found, class_="findings") if found else None
