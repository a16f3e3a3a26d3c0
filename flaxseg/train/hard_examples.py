"""The training examples with the largest loss, among which wrong labels show up."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from flax import struct

from flaxseg.data.types import Batch
from flaxseg.errors import ArgumentError
from flaxseg.losses import LossFn
from flaxseg.train.step import MetricsFn

HARDEST = "hardest"
"""The name of this metric in `TrainMetrics.extra`."""


def hardest_examples(loss_fn: LossFn, count: int) -> MetricsFn:
    """Returns a `StepOptions.metrics_fn` that finds the examples of a batch with the largest loss.

    Evaluating it costs the loss a second time. The batch needs `index`, int32[B]: each example's index in the dataset.

    Args:
      loss_fn: evaluated on each example alone.
      count: number of examples to list, at least 1.
    """
    return functools.partial(_hardest, loss_fn=loss_fn, count=count)


def _hardest(logits: jax.Array, batch: Batch, *, loss_fn: LossFn, count: int) -> dict[str, clu_metrics.Metric]:
    if "index" not in batch:
        raise ArgumentError("batch", sorted(batch), "hardest_examples needs `index`, int32[B], too")
    return {HARDEST: HardExamples.from_model_output(logits, batch, loss_fn=loss_fn, count=count)}


@struct.dataclass
class HardExamples(clu_metrics.Metric):
    """The few examples with the largest loss among those seen, in descending order, as a CLU metric."""

    loss: jax.Array | np.ndarray
    """float32[N]; -inf where fewer than N examples were seen."""
    index: jax.Array | np.ndarray
    """int32[N]: each example's index in the dataset."""

    @classmethod
    def from_model_output(  # type: ignore[override]
        cls, logits: jax.Array, batch: Batch, *, loss_fn: LossFn, count: int
    ) -> "HardExamples":
        """Returns the hardest examples of a batch.

        Args:
          logits: float[B, H, W, K].
          batch: `label` integer[B, H, W] and `index` int32[B].
          loss_fn: evaluated on each example as a batch of one, so that losses over a whole batch are defined, too.
          count: N.
        """
        loss = jax.vmap(lambda one, label: loss_fn(one[None], label[None])[0])(logits, batch["label"])
        largest, where = jax.lax.top_k(loss, min(count, loss.size))
        missing = (0, count - largest.size)
        return cls(jnp.pad(largest, missing, constant_values=-jnp.inf), jnp.pad(batch["index"][where], missing))

    def merge(self, other: "HardExamples") -> "HardExamples":
        """Returns the hardest examples of both, on the host; an example in both appears once, with its larger loss."""
        loss, index = np.append(self.loss, other.loss), np.append(self.index, other.index)
        order = np.lexsort((index, -loss))
        size = len(self.loss)
        kept = order[np.sort(np.unique(index[order], return_index=True)[1])[:size]]
        missing = (0, size - len(kept))
        return HardExamples(np.pad(loss[kept], missing, constant_values=-np.inf), np.pad(index[kept], missing))

    def pairs(self) -> list[tuple[int, float]]:
        """Returns the index and loss of each example, the largest loss first, without padding."""
        return [(int(i), float(x)) for i, x in zip(self.index, self.loss, strict=True) if x != -np.inf]
