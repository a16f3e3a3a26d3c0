"""The two ways in which metrics of batches become those of a dataset: counts that add up, and rows of pictures."""

from typing import Self

import jax
import numpy as np
from clu import metrics as clu_metrics
from flax import struct


@struct.dataclass
class Summed(clu_metrics.Metric):
    """A metric of integer arrays that add up, so that the whole does not depend on how it was split."""

    def merge(self, other: Self) -> Self:
        """Returns the counts of both together."""
        return jax.tree.map(lambda a, b: a + b, self, other)

    def to_host(self) -> Self:
        """Returns the counts in int64 on the host; waits for the device."""
        return jax.tree.map(_as_int64, jax.device_get(self))


@struct.dataclass
class Listed(clu_metrics.Metric):
    """A metric of integers for each picture, one array a batch. Pictures keep the order in which they were merged."""

    batches: tuple[jax.Array | np.ndarray, ...]

    def merge(self, other: Self) -> Self:
        """Returns the pictures of both, those of `other` last."""
        return type(self)(self.batches + other.batches)

    def to_host(self) -> Self:
        """Returns the same in int64 on the host; waits for the device."""
        return jax.tree.map(_as_int64, jax.device_get(self))

    @property
    def rows(self) -> np.ndarray:
        """int64[N, ...]: what was measured of each picture. A picture without a counted pixel has zeros."""
        return np.concatenate([_as_int64(batch) for batch in self.batches])


def _as_int64(counts: jax.Array | np.ndarray) -> np.ndarray:
    return np.asarray(counts).astype(np.int64)
