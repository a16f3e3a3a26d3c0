"""The examples of the largest loss, by their index in the dataset: mislabeled ones come up among them."""

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from flax import struct

from flaxseg.data.types import Batch
from flaxseg.losses import LossFn


@struct.dataclass
class HardExamples(clu_metrics.Metric):
    """The few examples with the largest loss among those seen, the largest first, as a CLU metric."""

    loss: jax.Array | np.ndarray
    """float32[N]; -inf where fewer were seen."""
    index: jax.Array | np.ndarray
    """int32[N], each example's index in the dataset."""

    @classmethod
    def from_model_output(  # type: ignore[override]
        cls, logits: jax.Array, batch: Batch, *, loss_fn: LossFn, count: int
    ) -> "HardExamples":
        """Finds them in a batch.

        Args:
          logits: float[B, H, W, K].
          batch: `label` integer[B, H, W] and `index` int32[B].
          loss_fn: taken of each example by itself.
          count: N.
        """
        # Of each as a batch of one, which losses over a whole batch are defined for, too.
        loss = jax.vmap(lambda one, label: loss_fn(one[None], label[None])[0])(logits, batch["label"])
        largest, where = jax.lax.top_k(loss, min(count, loss.size))
        missing = (0, count - largest.size)
        return cls(jnp.pad(largest, missing, constant_values=-jnp.inf), jnp.pad(batch["index"][where], missing))

    def merge(self, other: "HardExamples") -> "HardExamples":
        """Returns the hardest of both, on the host; an example that is in both counts once, with its larger loss."""
        loss, index = np.append(self.loss, other.loss), np.append(self.index, other.index)
        order = np.lexsort((index, -loss))
        size = len(self.loss)
        kept = order[np.sort(np.unique(index[order], return_index=True)[1])[:size]]
        missing = (0, size - len(kept))
        return HardExamples(np.pad(loss[kept], missing, constant_values=-np.inf), np.pad(index[kept], missing))

    def named(self) -> list[tuple[int, float]]:
        """Returns index and loss of each, the largest loss first, without what only fills up."""
        return [(int(i), float(x)) for i, x in zip(self.index, self.loss, strict=True) if x != -np.inf]
