"""Scores of single images, their averages, and confidence intervals of the averages."""

import math
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import PerImageMetric
from flaxseg.metrics.bootstrap import percentile_intervals, sorted_rows
from flaxseg.metrics.counting import pair_counts
from flaxseg.metrics.ratios import defined_mean, ratio

PERCENTILES = (5, 25, 50, 75, 95)


@struct.dataclass
class PerImage(PerImageMetric):
    """IoU and Dice of single images and their averages, as a CLU metric.

    `rows`, int64[N, K, 3], holds the numbers of pixels in the intersection, in the label and in the prediction of each
    image and class. A class is present in an image if its label or its prediction contains it. Images without valid
    pixels have a row of zeros and are excluded from all scores. Scores do not depend on the order of the images or on
    their batches, to the bit.

    Averages over images instead of pixels: Wang et al. 2023, https://arxiv.org/abs/2310.19252, who average each class
    over the images whose label contains it. Here, images where it is only predicted are included with a score of 0.
    """

    @classmethod
    def from_model_output(cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, **_: Any) -> Self:
        """Counts the pixels of a batch, exactly for images of less than 2**31 pixels.

        Args:
          prediction: integer[B, H, W], class indices.
          label: integer[B, H, W]; pixels where the label or the prediction is not a class are excluded.
          num_classes: K.
        """
        pairs = pair_counts(prediction, label, num_classes)
        intersection = jnp.diagonal(pairs, axis1=1, axis2=2)
        return cls((jnp.stack([intersection, pairs.sum(2), pairs.sum(1)], axis=-1),))

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns an empty metric, on the host."""
        return cls((np.zeros((0, num_classes, 3), np.int64),))

    def image_iou(self) -> np.ndarray:
        """Returns each image's mean IoU over its classes, float64[N]; NaN for images without valid pixels."""
        return _mean_over_classes(_iou(self.rows))

    def image_dice(self) -> np.ndarray:
        """Returns each image's mean Dice over its classes, float64[N]; NaN for images without valid pixels."""
        return _mean_over_classes(_dice(self.rows))

    def class_iou(self) -> np.ndarray:
        """Returns each class's mean IoU over the images that contain it, float64[K]; NaN for absent classes."""
        return np.array([defined_mean(column) for column in _iou(self.rows).T])

    def class_dice(self) -> np.ndarray:
        """Returns each class's mean Dice over the images that contain it, float64[K]; NaN for absent classes."""
        return np.array([defined_mean(column) for column in _dice(self.rows).T])

    def compute(self) -> dict[str, float]:
        """Returns the scores below, each as `per_image/NAME`; all but `images` are NaN without images.

        - `images`: the number of images with valid pixels.
        - `miou`, `mean_dice`: the means over images of `image_iou` and `image_dice`; mIoU^I in the paper.
        - `micro_iou`: the mean over images of the IoU pooled over classes.
        - `class_miou`: the mean over classes of `class_iou`; mIoU^C in the paper.
        - `miou_p5`, `_p25`, `_p50`, `_p75`, `_p95`: percentiles of `image_iou`.
        - `miou_low`, `miou_high`: the 95 % percentile bootstrap interval of `miou`, from resampled images.
        - `dataset_miou_low`, `dataset_miou_high`: the same interval of the mIoU pooled over all pixels.
        """
        rows = sorted_rows(self.rows)
        iou = _mean_over_classes(_iou(rows))
        pooled = rows.sum(1)
        scores = {
            "images": float(len(rows)),
            "miou": defined_mean(iou),
            "mean_dice": defined_mean(self.image_dice()),
            "micro_iou": defined_mean(_iou(pooled)),
            "class_miou": defined_mean(self.class_iou()),
        }
        names = [f"miou_p{q}" for q in PERCENTILES]
        scores |= zip(names, np.percentile(iou, PERCENTILES) if len(iou) else [math.nan] * len(names), strict=True)
        intervals = ("miou_low", "miou_high", "dataset_miou_low", "dataset_miou_high")
        scores |= zip(intervals, _bootstrap(rows, iou) if len(iou) else [math.nan] * 4, strict=True)
        return {f"per_image/{name}": float(value) for name, value in scores.items()}

    def intervals(self) -> dict[str, np.ndarray]:
        """Returns the 95 % intervals of scores of the dataset and of its classes; see `percentile_intervals`.

        Returns:
          For `miou`, `mean_dice`, `pixel_accuracy` (from all pixels of the dataset) and `image_miou` (the mean of
          `image_iou`) float64[2], the lower and upper end; for `iou`, `dice`, `precision` and `recall` float64[2, K],
          those of each class. NaN without images, and for a score that is undefined in all resamples.
        """
        rows = sorted_rows(self.rows)
        if not len(rows):
            undefined = {name: np.full(2, np.nan) for name in (*_OVERALL, "image_miou")}
            return undefined | {name: np.full((2, rows.shape[1]), np.nan) for name in _BY_CLASS}
        values = _mean_over_classes(_iou(rows))

        def statistics(drawn: np.ndarray, totals: np.ndarray) -> np.ndarray:
            by_class = [score(totals) for score in _BY_CLASS.values()]
            overall = [score(totals) for score in _OVERALL.values()]
            return np.concatenate([np.stack([*overall, values[drawn].mean(1)], axis=1), *by_class], axis=1)

        bounds = percentile_intervals(rows, statistics)
        overall = dict(zip((*_OVERALL, "image_miou"), bounds.T, strict=False))
        by_class = np.split(bounds[:, len(overall) :], len(_BY_CLASS), axis=1)
        return overall | dict(zip(_BY_CLASS, by_class, strict=True))

    def summary(self) -> str:
        """Returns the scores of `compute` in words, on four lines."""
        found = {name.removeprefix("per_image/"): f"{value:.4f}" for name, value in self.compute().items()}
        percentiles = ", ".join(f"{found[f'miou_p{q}']} ({q} %)" for q in PERCENTILES)
        lines = (
            "means over {images} images: mIoU {miou} (95 % interval {miou_low} to {miou_high}),",
            "mean Dice {mean_dice}, micro IoU {micro_iou}, mean of the classes' IoU {class_miou}",
            f"percentiles of the mIoU of images: {percentiles}",
            "95 % interval of the mIoU of all pixels: {dataset_miou_low} to {dataset_miou_high}",
        )
        return "\n  ".join(lines).format(**found | {"images": int(np.count_nonzero(self.rows.any((1, 2))))})

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table: each class's mean IoU and Dice over the images that contain it, and their number."""
        images = (_union(self.rows) > 0).sum(0)
        width = max(len("class"), *map(len, class_names))
        lines = [f"{'class':<{width}}  {'IoU':>7}  {'Dice':>7}  {'images':>6}"]
        columns = zip(class_names, self.class_iou(), self.class_dice(), images, strict=True)
        lines += [f"{name:<{width}}  {iou:7.4f}  {dice:7.4f}  {count:6d}" for name, iou, dice, count in columns]
        return "\n".join(lines)


def _union(counts: np.ndarray) -> np.ndarray:
    return counts[..., 1] + counts[..., 2] - counts[..., 0]


def _iou(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], _union(counts))


def _dice(counts: np.ndarray) -> np.ndarray:
    return ratio(2 * counts[..., 0], counts[..., 1] + counts[..., 2])


def _precision(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], counts[..., 2])


def _recall(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], counts[..., 1])


def _mean_over_classes(values: np.ndarray) -> np.ndarray:
    return ratio(np.nansum(values, axis=-1), (~np.isnan(values)).sum(-1))


def _bootstrap(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the 95 % intervals of the mean of `values` and of the pooled mIoU: low, high, low, high."""

    def statistics(drawn: np.ndarray, totals: np.ndarray) -> np.ndarray:
        return np.stack([values[drawn].mean(1), _mean_over_classes(_iou(totals))], axis=1)

    return percentile_intervals(rows, statistics).T.reshape(-1)


_BY_CLASS = {"iou": _iou, "dice": _dice, "precision": _precision, "recall": _recall}
"""Scores of each class, float64[..., K], of counts [..., K, 3]."""

_OVERALL = {
    "miou": lambda counts: _mean_over_classes(_iou(counts)),
    "mean_dice": lambda counts: _mean_over_classes(_dice(counts)),
    "pixel_accuracy": lambda counts: ratio(counts[..., 0].sum(-1), counts[..., 1].sum(-1)),
}
"""Scores of a dataset, float64[...], of counts [..., K, 3]."""
