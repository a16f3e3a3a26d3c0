"""The confusion matrix."""

from collections.abc import Sequence
from typing import Any, Self

import jax
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import Summed
from flaxseg.metrics.counting import pair_counts
from flaxseg.metrics.scores import SCORES, per_class_table


@struct.dataclass
class ConfusionMatrix(Summed):
    """Pixel counts by true class (rows) and predicted class (columns), as a CLU metric.

    Counts of one batch are int32[K, K] on the device: exact for batches of less than 2**31 pixels. Totals over a
    dataset are kept on the host, `to_host()`, in int64. Merging adds counts, so the scores of a whole do not
    depend on how it was split into batches, devices or processes.
    """

    counts: jax.Array | np.ndarray

    @classmethod
    def from_model_output(cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, **_: Any) -> Self:
        """Counts the pixels of a batch.

        Args:
          prediction: integer[...] of class indices.
          label: integer[...] of the same shape; pixels of IGNORE_LABEL, and of anything else that is no class, are
            left out, as are those whose prediction is no class.
          num_classes: K.
        """
        if label.ndim < 3:
            prediction, label = prediction.reshape(1, -1), label.reshape(1, -1)
        return cls(pair_counts(prediction, label, num_classes).sum(0))

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns the matrix of no pixels, in int64 on the host."""
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def compute(self) -> dict[str, float]:
        """Returns every score of SCORES by name."""
        counts = np.asarray(self.to_host().counts)
        return {name: float(score(counts)) for name, score in SCORES.items()}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns per_class_table() of the counts."""
        return per_class_table(np.asarray(self.to_host().counts), class_names)
