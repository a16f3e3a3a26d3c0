"""Scores of logits against labels, as sums and counts that merge exactly."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from flax import struct

from flaxseg.data.types import Batch
from flaxseg.metrics import METRICS, ConfusionMatrix
from flaxseg.ops import resize_bilinear_ragged


@struct.dataclass
class EvalMetrics:
    """The scores of an evaluation batch, or of several merged ones."""

    confusion: ConfusionMatrix
    others: dict[str, Any] = struct.field(default_factory=dict)
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

    def table(self, class_names: Sequence[str]) -> str:
        """Returns the scores as text: a table of the classes, and one for each further metric."""
        tables = [self.confusion.table(class_names)]
        for name, metric in self.others.items():
            scores = [f"{key.partition('/')[2]} {value:.4g}" for key, value in metric.compute().items()]
            means = textwrap.fill(f"{name}: {', '.join(scores)}", 100, subsequent_indent="  ")
            tables.append(f"{means}\n{metric.table(class_names)}")
        return "\n\n".join(tables)


def merge_all(measured: Iterable[EvalMetrics]) -> EvalMetrics:
    """Returns the scores of all batches together, fetched one batch late, so that the device never waits for the host.

    Args:
      measured: the scores of at least one batch, on the device.
    """
    total, last = None, None
    for scores in measured:
        if last is not None:
            total = _merged(total, last)
        last = scores
    if last is None:
        raise ValueError("there are no batches to evaluate")
    return _merged(total, last)


def _merged(total: EvalMetrics | None, scores: EvalMetrics) -> EvalMetrics:
    return scores.to_host() if total is None else total.merge(scores.to_host())


def score_logits(
    logits: jax.Array, batch: Batch, *, metrics: Sequence[str] = (), scale: float | None = None
) -> EvalMetrics:
    """Scores logits against a batch's labels.

    With `size`, int32[B, 2], in the batch, the logits are first resized (bilinear) to the size of each label, so that
    images are scored at their native resolution.

    Args:
      logits: float32[B, H, W, K].
      batch: `label`, uint8[B, h, w], and optionally `size`; with `scale` also `extent`, int32[B, 2], the height and
        width that the logits of each image occupy in the upper left of `logits`.
      metrics: names of `metrics.METRICS` to compute in addition to the confusion matrix.
      scale: the factor that images were multiplied by; at 1, logits are those of the label's own pixels and are not
        resized. None if the logits of each image fill the array.
    """
    label, size = batch["label"], batch.get("size")
    canvas = label.shape[1:3]
    if scale == 1:
        logits = logits[:, : canvas[0], : canvas[1]]
    elif size is not None:
        logits = resize_bilinear_ragged(logits, size, canvas, old_sizes=None if scale is None else batch["extent"])
    output = {
        "logits": logits, "prediction": logits.argmax(-1), "label": label, "num_classes": logits.shape[-1], "size": size
    }  # fmt: skip
    return EvalMetrics(
        confusion=ConfusionMatrix.from_model_output(**output),
        others={name: METRICS[name].from_model_output(**output) for name in metrics},
    )
