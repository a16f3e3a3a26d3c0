"""Scores of logits against labels, as sums and counts that merge exactly."""

import functools
import textwrap
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.data.types import Batch
from flaxseg.errors import check_choice
from flaxseg.metrics import METRICS, ConfusionMatrix, PerImage
from flaxseg.metrics.accumulation import PerImageMetric
from flaxseg.metrics.scores import CLASS_IOU, iou
from flaxseg.ops import resize_bilinear_ragged
from flaxseg.shapes import check_label

_AHEAD = 2
"""The number of batches whose scores are not fetched yet, so that the device never waits for the host."""

_MAX_NAMED = 10
"""More classes than this that occur in no label are only counted."""


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

    def compute(self, class_names: Sequence[str] = ()) -> dict[str, float]:
        """Returns every score by name.

        Args:
          class_names: one name per class, to add the IoU of each class as `iou/NAME`; () to leave these out.
        """
        scores = self.confusion.compute()
        for metric in self.others.values():
            scores |= metric.compute()
        by_class = zip(class_names, self.class_iou().tolist(), strict=True) if class_names else ()
        return scores | {f"{CLASS_IOU}{name}": value for name, value in by_class}

    def class_iou(self) -> np.ndarray:
        """Returns the intersection over union of each class, float64[K]; NaN if label and prediction both lack it.

        `flaxseg.metrics.scores` has other scores of `confusion.counts`. `compute()["miou"]` is the mean of the classes
        that are not NaN.
        """
        return iou(np.asarray(self.confusion.to_host().counts))

    def table(self, class_names: Sequence[str]) -> str:
        """Returns the scores as text: a table of the classes, and one for each further metric.

        Classes that occur in no label are named below the first table.
        """
        tables = [self.confusion.table(class_names) + self._missing_classes(class_names)]
        for name, metric in self.others.items():
            tables.append(f"{name}: {_in_words(metric)}\n{metric.table(class_names)}")
        return "\n\n".join(tables)

    def _missing_classes(self, class_names: Sequence[str]) -> str:
        """Returns a line that names the classes without a pixel in the labels; "" if there are none."""
        pixels = np.asarray(self.confusion.to_host().counts).sum(1)
        missing = [name for name, count in zip(class_names, pixels, strict=True) if not count]
        if not missing:
            return ""
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        text = (
            f"note: {len(missing)} of {len(class_names)} classes occur in no label: {', '.join(missing[:_MAX_NAMED])}"
            f"{more}. If they should occur, `flaxseg inspect` shows how the masks are read"
        )
        return "\n" + textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)


def _in_words(metric: Any) -> str:
    """Returns the scores of a metric other than those of its table, as text."""
    if isinstance(metric, PerImage):
        return metric.summary()
    scores = [f"{key.partition('/')[2]} {value:.4g}" for key, value in metric.compute().items()]
    return textwrap.fill(", ".join(scores), 88, subsequent_indent="  ")


def merge_all(measured: Iterable[EvalMetrics]) -> EvalMetrics:
    """Returns the scores of all batches together, fetched a few batches late.

    Args:
      measured: the scores of at least one batch, on the device.
    """
    total: EvalMetrics | None = None
    pending: deque[EvalMetrics] = deque()
    for scores in measured:
        for counts in jax.tree.leaves(scores):
            if isinstance(counts, jax.Array):
                counts.copy_to_host_async()
        pending.append(scores)
        if len(pending) > _AHEAD:
            total = _merged(total, pending.popleft())
    while pending:
        total = _merged(total, pending.popleft())
    if total is None:
        raise ValueError("there are no batches to evaluate")
    return total


def merge_interleaved(parts: Sequence[EvalMetrics]) -> EvalMetrics:
    """Returns the scores of a batch of which each part has one example of every shard; for use under jit.

    Args:
      parts: the scores of the first example of each shard, of the second, and so on.
    """

    def in_order(metric: Any) -> Any:
        if not isinstance(metric, PerImageMetric):
            return metric
        rows = jnp.stack(metric.batches, axis=1)
        return type(metric)((rows.reshape(-1, *rows.shape[2:]),))

    total = functools.reduce(EvalMetrics.merge, parts)
    return EvalMetrics(total.confusion, {name: in_order(metric) for name, metric in total.others.items()})


def _merged(total: EvalMetrics | None, scores: EvalMetrics) -> EvalMetrics:
    return scores.to_host() if total is None else total.merge(scores.to_host())


def score_logits(
    logits: jax.Array,
    batch: Batch,
    *,
    metrics: Sequence[str] = (),
    scale: float | None = None,
    rows_last: bool | None = None,
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
      rows_last: the order in which logits are resized; see `resize_bilinear_ragged`.

    Raises:
      ArgumentError: labels do not fit the logits, or a metric is unknown.
    """
    logits = logits_of_labels(logits, batch, scale=scale, rows_last=rows_last)
    label, size = batch["label"], batch.get("size")
    check_label(label, tuple(logits.shape[:-1]), logits=logits)
    for name in metrics:
        check_choice("metrics", name, METRICS)
    output = {
        "logits": logits, "prediction": logits.argmax(-1), "label": label, "num_classes": logits.shape[-1], "size": size
    }  # fmt: skip
    return EvalMetrics(
        confusion=ConfusionMatrix.from_model_output(**output),
        others={name: METRICS[name].from_model_output(**output) for name in metrics},
    )


def logits_of_labels(
    logits: jax.Array, batch: Batch, *, scale: float | None = None, rows_last: bool | None = None
) -> jax.Array:
    """Returns the logits float32[B, h, w, K] of the pixels of a batch's labels, resized where sizes differ.

    Args:
      logits: float32[B, H, W, K].
      batch: see `score_logits`.
      scale: see `score_logits`.
      rows_last: see `score_logits`.
    """
    if "size" not in batch and scale != 1:
        return logits
    canvas = batch["label"].shape[1:3]
    return _at_label_size(logits, batch.get("size"), batch.get("extent"), canvas, scale, rows_last)


def predicted_label(
    logits: jax.Array,
    index: int | jax.Array,
    size: jax.Array,
    extent: jax.Array,
    *,
    canvas: tuple[int, int],
    scale: float | None = None,
    rows_last: bool | None = None,
) -> jax.Array:
    """Returns the most likely class of each pixel of one image of a batch, at the size of its label.

    These are the predictions that `score_logits` scores, to the bit.

    Args:
      logits: float32[B, H, W, K].
      index: the index of the image in the batch.
      size: int32[2], the height and width of its label.
      extent: int32[2], the height and width of its logits; unused if `scale` is None.
      canvas: height and width of the returned array, at least `size`.
      scale: see `score_logits`.
      rows_last: see `score_logits`; for the same rounding, that of the whole batch.

    Returns:
      uint8[*canvas], in whose upper left the prediction is.
    """
    one = jax.lax.dynamic_slice_in_dim(logits, index, 1)
    one = _at_label_size(one, size[None], extent[None], canvas, scale, rows_last)
    return one[0].argmax(-1).astype(jnp.uint8)


def _at_label_size(
    logits: jax.Array,
    size: Any,
    extent: Any,
    canvas: tuple[int, int],
    scale: float | None,
    rows_last: bool | None,
) -> jax.Array:
    """Returns logits in the sizes of their labels, int32[B, 2], in the upper left of a canvas."""
    if scale == 1:
        return logits[:, : canvas[0], : canvas[1]]
    old_sizes = None if scale is None else extent
    return resize_bilinear_ragged(logits, size, canvas, old_sizes=old_sizes, rows_last=rows_last)
