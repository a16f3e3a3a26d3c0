"""The scores of single images: how they are distributed, and whether they depend on the size of the image."""

import numpy as np

from flaxseg.metrics.ratios import ratio
from flaxseg.report.page.content import ImageScores, PageContent
from flaxseg.report.page.html import Html, join
from flaxseg.report.page.plot import Plot, figure, linear_axis, log_axis, unit_axis

_BINS = 20
_MAX_DOTS = 1500
"""The largest number of images in a scatter plot; of more, as many are drawn at equal distances in their order."""


def image_scores(content: PageContent) -> Html:
    """Returns the figures of the scores of single images; only the distribution if all have one size."""
    images = content.images
    shown = [figure("IoU of single images", distribution(images), note=_summary(images))]
    sizes = {tuple(size) for size in images.sizes.tolist()}
    if len(sizes) > 1:
        shown.append(figure("IoU by image size", by_size(images), note=_size_note(images)))
    return join(*shown)


def distribution(images: ImageScores) -> Html:
    """Returns a histogram of the IoU of the images, with their mean."""
    counts, edges = np.histogram(images.iou, bins=_BINS, range=(0, 1))
    plot = Plot(unit_axis("mean IoU over the classes of an image"), linear_axis("images", 0, max(counts.max(), 4)))
    bars = [
        plot.bar(low, high, count, title=f"{count:,} images with an IoU of {low:.2f} to {high:.2f}")
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if count
    ]
    mean = float(images.iou.mean()) if len(images.iou) else 0.0
    line = plot.line((mean, mean), (0, plot.y.high), class_="mean", title=f"mean {mean:.4f}")
    return plot.svg(*bars, line, label="Histogram of the IoU of single images")


def by_size(images: ImageScores) -> Html:
    """Returns a scatter plot of the IoU of each image by the square root of its area."""
    sides = np.sqrt(images.sizes.prod(1))
    axis = log_axis if sides.max() > 3 * sides.min() else linear_axis
    plot = Plot(axis("\u221a(height \u00d7 width), pixels", sides.min(), sides.max()), unit_axis("IoU"))
    chosen = np.unique(np.linspace(0, len(sides) - 1, min(len(sides), _MAX_DOTS)).round().astype(int)).tolist()
    dots = [
        plot.dot(float(sides[i]), float(images.iou[i]), title=_title(images, i), radius=3 if len(chosen) < 400 else 2)
        for i in chosen
    ]
    return plot.svg(*dots, label="Scatter plot of the IoU of images by their size")


def _title(images: ImageScores, index: int) -> str:
    height, width = images.sizes[index].tolist()
    return f"{images.ids[index]}\n{width} \u00d7 {height} pixels\nIoU {images.iou[index]:.3f}"


def _summary(images: ImageScores) -> Html | str:
    if not len(images.iou):
        return "There are no labeled pixels."
    low, middle = np.percentile(images.iou, (5, 50)).tolist()
    sizes = {tuple(size) for size in images.sizes.tolist()}
    size = "" if len(sizes) > 1 else " All images are {1} \u00d7 {0} pixels.".format(*sizes.pop())
    mean = f"The mean is {images.iou.mean():.3f} (dashed) and the median {middle:.3f}"
    return f"{mean}; one image in twenty is below {low:.3f}.{size}"


def _size_note(images: ImageScores) -> str:
    correlation = rank_correlation(images.sizes.prod(1), images.iou)
    text = f"Rank correlation of size and IoU: {correlation:+.2f}. " if np.isfinite(correlation) else ""
    drawn = f" {_MAX_DOTS:,} of {len(images.ids):,} images are drawn." if len(images.ids) > _MAX_DOTS else ""
    return f"{text}Hover over a dot for the image.{drawn}"


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two arrays [N], -1..1; equal values have their mean rank.

    NaN if all values of an array are equal.
    """
    first, second = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    return float(ratio((first * second).sum(), np.sqrt((first**2).sum() * (second**2).sum())))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]
