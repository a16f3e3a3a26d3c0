"""The confusion matrix, from which most scores are computed."""

from collections.abc import Sequence
from typing import Any, Self

import jax
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import CountMetric
from flaxseg.metrics.counting import pair_counts
from flaxseg.metrics.scores import SCORES, per_class_table
from flaxseg.shapes import check_label


@struct.dataclass
class ConfusionMatrix(CountMetric):
    """Pixel counts by true class (rows) and predicted class (columns), as a CLU metric.

    The counts of a batch are int32[K, K] on the device: exact for batches of less than 2**31 pixels. Totals over a
    dataset are int64 on the host; see `to_host`. Merging adds counts, so that the scores of a dataset do not depend on
    how it is split into batches, devices or processes.

    Attributes:
      counts: int[K, K], the numbers of pixels.
    """

    counts: jax.Array | np.ndarray

    @classmethod
    def from_model_output(cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, **_: Any) -> Self:
        """Counts the pixels of a batch.

        Args:
          prediction: integer[...], class indices.
          label: integer[...] of the same shape; pixels where the label or the prediction is not a class, such as
            IGNORE_LABEL, are excluded.
          num_classes: K.

        Raises:
          ArgumentError: labels are not integers, or do not have the shape of the predictions.
        """
        check_label(label, tuple(prediction.shape), of="the predictions")
        if label.ndim < 3:
            prediction, label = prediction.reshape(1, -1), label.reshape(1, -1)
        return cls(pair_counts(prediction, label, num_classes).sum(0))

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns counts of 0, in int64 on the host."""
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def compute(self) -> dict[str, float]:
        """Returns every score in `SCORES` by name."""
        counts = np.asarray(self.to_host().counts)
        return {name: float(score(counts)) for name, score in SCORES.items()}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table of the scores of each class; see `per_class_table`."""
        return per_class_table(np.asarray(self.to_host().counts), class_names)
