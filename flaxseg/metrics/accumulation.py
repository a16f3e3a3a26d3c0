"""Base classes of the metrics: counts that are added up, and measurements that are kept for each image."""

from typing import Self

import jax
import numpy as np
from clu import metrics as clu_metrics
from flax import struct


@struct.dataclass
class CountMetric(clu_metrics.Metric):
    """A metric of integer counts that are added up, so that the result does not depend on how the data is split."""

    def merge(self, other: Self) -> Self:
        """Returns the sum of both counts."""
        return jax.tree.map(lambda a, b: a + b, self, other)

    def to_host(self) -> Self:
        """Returns the counts as int64 on the host; waits for the device."""
        return jax.tree.map(_as_int64, jax.device_get(self))


@struct.dataclass
class PerImageMetric(clu_metrics.Metric):
    """A metric of integers per image, one array per batch. Images keep the order in which they were merged."""

    batches: tuple[jax.Array | np.ndarray, ...]

    def merge(self, other: Self) -> Self:
        """Returns the images of this metric, followed by those of `other`."""
        return type(self)(self.batches + other.batches)

    def to_host(self) -> Self:
        """Returns the same metric as int64 on the host; waits for the device."""
        return jax.tree.map(_as_int64, jax.device_get(self))

    @property
    def rows(self) -> np.ndarray:
        """int64[N, ...]: the measurements of each image; zeros for images without valid pixels."""
        return np.concatenate([_as_int64(batch) for batch in self.batches])


def _as_int64(counts: jax.Array | np.ndarray) -> np.ndarray:
    return np.asarray(counts).astype(np.int64)
