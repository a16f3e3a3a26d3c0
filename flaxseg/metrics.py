"""The confusion matrix and the scores that are read from it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from flax import struct
from numpy.typing import ArrayLike


@struct.dataclass
class ConfusionMatrix(clu_metrics.Metric):
    """Pixel counts by true class (rows) and predicted class (columns), as a CLU metric.

    Counts of one batch are int32[K, K] on the device: exact for batches of up to 2**31 pixels. Totals over a
    data set are kept on the host, `to_host()`, in int64. Merging adds counts, so the scores of a whole do not
    depend on how it was split into batches, devices or processes.
    """

    counts: jax.Array | np.ndarray

    @classmethod
    def from_model_output(  # type: ignore[override]
        cls, *, prediction: jax.Array, label: jax.Array, num_classes: int
    ) -> "ConfusionMatrix":
        """Counts the pixels of a batch.

        Args:
          prediction: integer[...] of class indices.
          label: integer[...] of the same shape; pixels of IGNORE_LABEL, and of anything else that is no class, are
            left out, as are those whose prediction is no class.
          num_classes: K.
        """
        size = num_classes * num_classes
        label, prediction = label.astype(jnp.int32), prediction.astype(jnp.int32)
        counted = (label >= 0) & (label < num_classes) & (prediction >= 0) & (prediction < num_classes)
        # What does not count falls into one bin past the last, which is cut off.
        pair = jnp.where(counted, label * num_classes + prediction, size)
        counts = jnp.zeros(size + 1, jnp.int32).at[pair.reshape(-1)].add(1)
        return cls(counts[:size].reshape(num_classes, num_classes))

    @classmethod
    def empty(cls, num_classes: int) -> "ConfusionMatrix":  # type: ignore[override]
        """Returns the matrix of no pixels, in int64 on the host."""
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Returns the counts of both together."""
        return ConfusionMatrix(self.counts + other.counts)

    def to_host(self) -> "ConfusionMatrix":
        """Returns the counts in int64 on the host; waits for the device."""
        return ConfusionMatrix(np.asarray(self.counts).astype(np.int64))

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        """Returns every score of SCORES by name."""
        counts = np.asarray(self.counts)
        return {name: float(score(counts)) for name, score in SCORES.items()}


def iou(counts: np.ndarray) -> np.ndarray:
    """Returns each class's intersection over union, float64[K]; NaN where label and prediction both lack it."""
    intersection = np.diagonal(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - np.diagonal(counts)
    return _divide(intersection, union)


def recall(counts: np.ndarray) -> np.ndarray:
    """Returns the share of each class's pixels that were found, float64[K]; NaN for a class without any."""
    return _divide(np.diagonal(counts), counts.sum(1))


def precision(counts: np.ndarray) -> np.ndarray:
    """Returns the share of the pixels predicted as each class that are right, float64[K]; NaN where none were."""
    return _divide(np.diagonal(counts), counts.sum(0))


def mean_iou(counts: np.ndarray) -> float:
    """Returns the mean of iou() over the classes that label or prediction has; NaN when there is no pixel."""
    values = iou(counts)
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def pixel_accuracy(counts: np.ndarray) -> float:
    """Returns the share of all pixels that are right; NaN when there is no pixel."""
    return float(_divide(np.trace(counts), counts.sum()))


def _divide(above: ArrayLike, below: ArrayLike) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "miou": mean_iou,
    "pixel_accuracy": pixel_accuracy,
}
"""Scores of a whole confusion matrix, by the name that a configuration and TensorBoard use."""


def per_class_table(counts: np.ndarray, class_names: tuple[str, ...]) -> str:
    """Returns a text table: each class's IoU, precision, recall and share of pixels, and the means below."""
    share = _divide(counts.sum(1), counts.sum())
    columns = np.stack([iou(counts), precision(counts), recall(counts), share], axis=1)
    width = max(len("pixel accuracy"), *map(len, class_names))
    lines = [f"{'class':<{width}}  {'IoU':>7}  {'precision':>9}  {'recall':>7}  {'share':>7}"]
    lines += [
        f"{name:<{width}}  {row[0]:7.4f}  {row[1]:9.4f}  {row[2]:7.4f}  {row[3]:7.4f}"
        for name, row in zip(class_names, columns, strict=True)
    ]
    lines += [
        f"{'mIoU':<{width}}  {mean_iou(counts):7.4f}",
        f"{'pixel accuracy':<{width}}  {pixel_accuracy(counts):7.4f}",
    ]
    return "\n".join(lines)
