"""Scores of logits against labels, as sums and counts that merge exactly."""

from collections.abc import Sequence

import jax
from clu import metrics as clu_metrics
from flax import struct

from flaxseg.data.types import Batch
from flaxseg.metrics import METRICS, ConfusionMatrix
from flaxseg.ops import resize_bilinear_ragged


@struct.dataclass
class EvalMetrics:
    """The scores of an evaluation batch, or of several merged ones."""

    confusion: ConfusionMatrix
    others: dict[str, clu_metrics.Metric] = struct.field(default_factory=dict)
    """The requested entries of `metrics.METRICS`, by name."""

    def merge(self, other: "EvalMetrics") -> "EvalMetrics":
        """Returns the scores of both sets of examples together."""
        others = {name: metric.merge(other.others[name]) for name, metric in self.others.items()}
        return EvalMetrics(self.confusion.merge(other.confusion), others)

    def to_host(self) -> "EvalMetrics":
        """Returns the same scores as 64-bit arrays on the host; waits for the device."""
        return EvalMetrics(self.confusion.to_host(), {name: metric.to_host() for name, metric in self.others.items()})

    def compute(self) -> dict[str, float]:
        """Returns every score by name."""
        scores = self.confusion.compute()
        for metric in self.others.values():
            scores |= metric.compute()
        return scores


def score_logits(logits: jax.Array, batch: Batch, *, metrics: Sequence[str] = ()) -> EvalMetrics:
    """Scores logits against a batch's labels.

    With `size`, int32[B, 2], in the batch, the logits are first resized (bilinear) to the size of each label, so that
    images are scored at their native resolution.

    Args:
      logits: float32[B, H, W, K].
      batch: `label`, uint8[B, h, w], and optionally `size`.
      metrics: names of `metrics.METRICS` to measure beside the confusion matrix.
    """
    label, size = batch["label"], batch.get("size")
    if size is not None:
        logits = resize_bilinear_ragged(logits, size, label.shape[1:3])
    output = {
        "logits": logits, "prediction": logits.argmax(-1), "label": label, "num_classes": logits.shape[-1], "size": size
    }  # fmt: skip
    return EvalMetrics(
        confusion=ConfusionMatrix.from_model_output(**output),
        others={name: METRICS[name].from_model_output(**output) for name in metrics},
    )
