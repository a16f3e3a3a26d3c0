"""The reliability diagram: accuracy by confidence, and the expected calibration error."""

import math

import numpy as np

from flaxseg.metrics import Reliability
from flaxseg.metrics.calibration import EDGES
from flaxseg.report.page.content import PageContent
from flaxseg.report.page.html import Html, element, join, percent
from flaxseg.report.page.plot import Axis, Plot, figure, unit_axis


def calibration(content: PageContent) -> Html:
    """Returns the section of the calibration."""
    return element(
        "section",
        element("h2", "Calibration"),
        element(
            "div",
            figure("Accuracy by confidence", reliability_diagram(content.reliability), note=_note(content)),
            figure("How confident the network is", confidence_histogram(content.reliability), note=_CONFIDENCE),
            class_="columns",
        ),
    )


_CONFIDENCE = "The confidence of a pixel is the probability of its most likely class."


def reliability_diagram(table: Reliability) -> Html:
    """Returns a reliability diagram: a bar of the accuracy of each bin, and a dot at its mean confidence."""
    plot = Plot(unit_axis("confidence"), unit_axis("accuracy"))
    marks = [plot.line((0, 1), (0, 1), class_="ideal", title="perfect calibration")]
    for low, high, confidence, accuracy, fraction in _bins(table):
        title = (
            f"confidence {low:.2f} to {high:.2f}, on average {confidence:.3f}\naccuracy {accuracy:.3f}\n"
            f"{percent(fraction)} of the pixels"
        )
        marks.append(plot.bar(low, high, accuracy, title=title))
        marks.append(plot.line((confidence, confidence), (accuracy, confidence), class_="gap"))
        marks.append(plot.dot(confidence, confidence, title=title, radius=2.5, class_="expected"))
    return plot.svg(*marks, label="Reliability diagram: accuracy by confidence")


def confidence_histogram(table: Reliability) -> Html:
    """Returns a histogram of the confidence of all pixels."""
    highest = float(np.nanmax(table.fraction)) if np.isfinite(table.fraction).any() else 1.0
    ticks = [tick for tick in (0, 0.2, 0.4, 0.6, 0.8, 1) if tick <= highest + 0.2]
    y = Axis("fraction of pixels", 0, ticks[-1], ticks, text=lambda tick: f"{100 * tick:g} %")
    plot = Plot(unit_axis("confidence"), y)
    bars = [
        plot.bar(low, high, fraction, title=f"{percent(fraction)} of the pixels: {low:.2f} to {high:.2f}")
        for low, high, _, _, fraction in _bins(table)
    ]
    return plot.svg(join(*bars), label="Histogram of the confidence of all pixels")


def _bins(table: Reliability) -> list[tuple[float, ...]]:
    """Returns lower and upper edge, confidence, accuracy and fraction of the bins that have pixels."""
    rows = np.stack([EDGES[:-1], EDGES[1:], *table], axis=1)
    return [tuple(row) for row in rows.tolist() if row[-1] > 0]


def _note(content: PageContent) -> str:
    ece, mce = (content.scores[f"calibration/{name}"] for name in ("ece", "mce"))
    gaps = [(confidence - accuracy) * fraction for _, _, confidence, accuracy, fraction in _bins(content.reliability)]
    if not math.isfinite(ece):
        return "The calibration error is undefined."
    more = "more" if sum(gaps) > 0 else "less"
    return (
        f"Expected calibration error {ece:.4f}, maximum {mce:.4f} (Guo et al. 2017). Dots are the mean confidence of "
        f"each bar: on average, the network is {more} confident than it is accurate."
    )
