"""Scores of single pictures, their averages, and how sure an average is."""

import math
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import Listed
from flaxseg.metrics.counting import pair_counts
from flaxseg.metrics.ratios import defined_mean, ratio

PERCENTILES = (5, 25, 50, 75, 95)

RESAMPLES = 1000
"""How often the bootstrap draws as many pictures as there are, with replacement."""

CELLS_AT_ONCE = 2**22
"""Of the table of resamples by pictures, so many are in memory together."""


@struct.dataclass
class PerImage(Listed):
    """Intersection, label pixels and predicted pixels of every class in every picture, `rows` int64[N, K, 3].

    A class counts in a picture where its label or its prediction has it. Pictures without a counted pixel keep their
    row, of zeros, and no score counts them.

    Scores do not depend on the order of the pictures or on batches, to the bit.

    Averages over pictures instead of pixels: Wang et al. 2023, https://arxiv.org/abs/2310.19252, who count a class in
    the pictures whose label has it. Here pictures where it is only predicted count too, with a score of 0.
    """

    @classmethod
    def from_model_output(cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, **_: Any) -> Self:
        """Counts the pixels of a batch, exactly for pictures of less than 2**31 pixels.

        Args:
          prediction: integer[B, H, W] of class indices.
          label: integer[B, H, W]; pixels where it or the prediction is no class are left out.
          num_classes: K.
        """
        pairs = pair_counts(prediction, label, num_classes)
        intersection = jnp.diagonal(pairs, axis1=1, axis2=2)
        return cls((jnp.stack([intersection, pairs.sum(2), pairs.sum(1)], axis=-1),))

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns the counts of no pictures, on the host."""
        return cls((np.zeros((0, num_classes, 3), np.int64),))

    def image_iou(self) -> np.ndarray:
        """Returns each picture's mean IoU over its classes, float64[N]; NaN for a picture without a counted pixel."""
        return _mean_over_classes(_iou(self.rows))

    def image_dice(self) -> np.ndarray:
        """Returns each picture's mean Dice over its classes, float64[N]; NaN for a picture without a counted pixel."""
        return _mean_over_classes(_dice(self.rows))

    def class_iou(self) -> np.ndarray:
        """Returns each class's mean IoU over the pictures that have it, float64[K]; NaN for a class in none."""
        return np.array([defined_mean(column) for column in _iou(self.rows).T])

    def class_dice(self) -> np.ndarray:
        """Returns each class's mean Dice over the pictures that have it, float64[K]; NaN for a class in none."""
        return np.array([defined_mean(column) for column in _dice(self.rows).T])

    def compute(self) -> dict[str, float]:
        """Returns the scores below, each as `per_image/NAME`; NaN without a picture.

        - `pictures`: how many have a counted pixel.
        - `miou`, `mean_dice`: means over pictures of image_iou() and image_dice(); mIoU^I in the paper.
        - `micro_iou`: mean over pictures of the IoU that pools their classes.
        - `class_miou`: mean of class_iou() over classes; mIoU^C in the paper.
        - `miou_p5`, `_p25`, `_p50`, `_p75`, `_p95`: percentiles of image_iou().
        - `miou_low`, `miou_high`: 95 % percentile bootstrap interval of `miou`, pictures resampled.
        - `dataset_miou_low`, `dataset_miou_high`: the same of the mIoU of all pixels.
        """
        rows = _sorted(self.rows)
        iou = _mean_over_classes(_iou(rows))
        pooled = rows.sum(1)
        scores = {
            "pictures": float(len(rows)),
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

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table: each class's mean IoU and Dice over the pictures that have it, and their number."""
        pictures = (_union(self.rows) > 0).sum(0)
        width = max(len("class"), *map(len, class_names))
        lines = [f"{'class':<{width}}  {'IoU':>7}  {'Dice':>7}  {'pictures':>8}"]
        columns = zip(class_names, self.class_iou(), self.class_dice(), pictures, strict=True)
        lines += [f"{name:<{width}}  {iou:7.4f}  {dice:7.4f}  {count:8d}" for name, iou, dice, count in columns]
        return "\n".join(lines)


def _union(counts: np.ndarray) -> np.ndarray:
    return counts[..., 1] + counts[..., 2] - counts[..., 0]


def _iou(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], _union(counts))


def _dice(counts: np.ndarray) -> np.ndarray:
    return ratio(2 * counts[..., 0], counts[..., 1] + counts[..., 2])


def _mean_over_classes(values: np.ndarray) -> np.ndarray:
    return ratio(np.nansum(values, axis=-1), (~np.isnan(values)).sum(-1))


def _sorted(rows: np.ndarray) -> np.ndarray:
    """The rows of pictures with a counted pixel, in an order that depends on nothing but what they hold."""
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    flat = flat[flat.any(1)]
    return flat[np.lexsort(flat.T[::-1])].reshape(-1, *rows.shape[1:])


def _bootstrap(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """95 % intervals of the mean of `values` and of the mIoU of all pixels: low, high, low, high.

    Percentile method: Efron & Tibshirani 1993, https://doi.org/10.1201/9780429246593
    """
    pictures = len(rows)
    # A fixed seed: the same predictions have the same interval.
    rng = np.random.default_rng(0)
    # Sums of whole numbers below 2**53 are exact in float64, in whatever order a matrix product adds them.
    flat = rows.reshape(pictures, -1).astype(np.float64)
    statistics = []
    for start in range(0, RESAMPLES, at_once := max(CELLS_AT_ONCE // pictures, 1)):
        draws = min(at_once, RESAMPLES - start)
        drawn = rng.integers(pictures, size=(draws, pictures))
        cells = (drawn + pictures * np.arange(draws)[:, None]).reshape(-1)
        times = np.bincount(cells, minlength=draws * pictures).reshape(draws, pictures)
        totals = (times @ flat).reshape(draws, *rows.shape[1:])
        statistics.append(np.stack([values[drawn].mean(1), _mean_over_classes(_iou(totals))], axis=1))
    return np.percentile(np.concatenate(statistics), (2.5, 97.5), axis=0).T.reshape(-1)
