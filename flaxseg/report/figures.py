"""Figures of scores and losses, rendered to arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from flaxseg import metrics
from flaxseg.report.drawing import figure_to_array, new_figure

_MAX_CLASSES_WITH_NUMBERS = 12
"""Confusion matrices of more classes show colors only, because numbers would be too small to read."""


def confusion_figure(counts: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns a figure of a confusion matrix whose rows are normalized to percentages of each true class.

    Args:
      counts: int64[K, K], pixels by true class (rows) and predicted class (columns).
      class_names: one name per class.

    Returns:
      uint8[height, width, 3]; numbers are shown for up to 12 classes.
    """
    classes = len(class_names)
    percent = 100 * (counts / np.maximum(counts.sum(1, keepdims=True), 1))
    side = min(max(0.75 * classes + 2.2, 4.0), 14.0)
    figure = new_figure(width=side, height=0.9 * side)
    axis = figure.subplots()
    mesh = axis.imshow(percent, vmin=0, vmax=100, cmap="Blues")
    figure.colorbar(mesh, ax=axis, shrink=0.8, label="percent of the true class")
    fontsize = 9 if classes <= _MAX_CLASSES_WITH_NUMBERS else 6
    axis.set_xticks(range(classes), class_names, rotation=45, ha="right", fontsize=fontsize)
    axis.set_yticks(range(classes), class_names, fontsize=fontsize)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if classes <= _MAX_CLASSES_WITH_NUMBERS:
        for row, column in np.ndindex(classes, classes):
            value = percent[row, column]
            color = "white" if value > 50 else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=fontsize)
    return figure_to_array(figure)


def reliability_figure(table: metrics.Reliability) -> np.ndarray:
    """Returns a reliability diagram: accuracy by confidence, and the fraction of pixels in each bin of confidence.

    Returns:
      uint8[height, width, 3].
    """
    figure = new_figure(width=5, height=6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(table.fraction) + 1)
    above.bar(edges[:-1], np.nan_to_num(table.accuracy), width=edges[1], align="edge", edgecolor="white")
    above.plot(table.confidence, table.confidence, "k.-", linewidth=1, label="perfect calibration")
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    above.legend(loc="upper left")
    below.bar(edges[:-1], np.nan_to_num(table.fraction), width=edges[1], align="edge", color="0.6", edgecolor="white")
    below.set_ylabel("fraction of pixels")
    below.set_xlabel("confidence of the most likely class")
    below.set_xlim(0, 1)
    return figure_to_array(figure)


def learning_rate_figure(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestions: Mapping[str, float]
) -> np.ndarray:
    """Returns a figure of a learning-rate range test: the loss by learning rate, with suggested rates marked.

    Args:
      rates: float64[N], the learning rate of each step.
      losses: float64[N], the training loss of each step.
      smoothed: float64[N], the losses after smoothing.
      suggestions: learning rates to mark, by their names in the legend.

    Returns:
      uint8[height, width, 3].
    """
    figure = new_figure(width=8, height=5)
    axis = figure.subplots()
    axis.plot(rates, losses, color="0.75", label="loss of each step")
    axis.plot(rates, smoothed, color="C0", linewidth=2, label="smoothed")
    for number, (name, rate) in enumerate(suggestions.items(), 1):
        axis.axvline(rate, color=f"C{number}", linestyle="--", label=f"{name}: {rate:.1e}")
    # The losses of a diverged test would flatten the rest of the curve.
    low, high = losses.min(), smoothed[0]
    axis.set_ylim(low - 0.1 * abs(high - low) - 1e-6, high + 0.6 * abs(high - low) + 1e-6)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.legend()
    return figure_to_array(figure)
