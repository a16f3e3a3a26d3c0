"""The scores of batches, whose labels may have their native sizes, on the devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from flaxseg.data.types import Batch, bucket_size
from flaxseg.inference.scoring import EvalMetrics, merge_interleaved, score_logits
from flaxseg.ops.resize import are_rows_last

_MAX_PADDING = 1.5
"""A batch is scored as a whole if its labels have at most so many times the pixels of its parts."""


class Scorer:
    """Scores logits against the labels of a batch, with jitted functions that compile when they are first called.

    Labels of very different sizes are scored one example per shard at a time, each on a canvas of its own size: a large
    image among small ones would otherwise cost as much as a batch of large ones, in time and memory. The scores are
    those of `score_logits` on the whole batch, to the bit.

    Args:
      metrics: see `score_logits`.
      scale: see `score_logits`.
      shards: number of equal parts of a batch that are on different devices; 0 scores batches as a whole.
      place: returns arrays of examples on the devices.
      sharding: the sharding of the scores.

    Attributes:
      has_scored: whether it has been called, so that its functions are compiled, perhaps but for other sizes of labels.
    """

    def __init__(
        self,
        *,
        metrics: Sequence[str] = (),
        scale: float | None = None,
        shards: int = 1,
        place: Callable[[Batch], Batch] = lambda batch: batch,
        sharding: Any = None,
    ) -> None:
        self._shards, self._place = shards, place
        self.has_scored = False
        score = functools.partial(score_logits, metrics=tuple(metrics), scale=scale)

        def score_part(logits: jax.Array, batch: Batch, part: int | jax.Array, rows_last: bool) -> EvalMetrics:
            by_shard = logits.reshape(shards, -1, *logits.shape[1:])
            logits = jax.lax.dynamic_index_in_dim(by_shard, part, axis=1, keepdims=False)
            return score(logits, batch, rows_last=rows_last)

        self._score = jax.jit(score, out_shardings=sharding)
        self._score_part = jax.jit(score_part, static_argnums=3, out_shardings=sharding)
        self._merge = jax.jit(merge_interleaved, out_shardings=sharding)

    def __call__(self, logits: jax.Array, batch: Batch) -> EvalMetrics:
        """Returns the scores of a batch, on the devices.

        Args:
          logits: float32[B, H, W, K].
          batch: on the host: `label`, and optionally `size` and `extent`; see `score_logits`.
        """
        self.has_scored = True
        parts = _parts(batch, self._shards) if "size" in batch and self._shards else []
        if batch["label"].size <= _MAX_PADDING * sum(part["label"].size for part in parts) or not parts:
            return self._score(logits, self._place(batch))
        # In the order of the whole batch, whose rounding then does not depend on the number of shards.
        rows_last = are_rows_last(logits.shape, batch["label"].shape[1:])
        scores = [self._score_part(logits, self._place(part), n, rows_last) for n, part in enumerate(parts)]
        return self._merge(scores)


def _parts(batch: Batch, shards: int) -> list[Batch]:
    """Returns the first example of every shard, then the second, and so on, with labels cropped to their sizes."""
    found: list[Batch] = []
    count = len(batch["size"]) // shards
    for first in range(count):
        part = {name: values[first::count] for name, values in batch.items()}
        height, width = map(bucket_size, part["size"].max(0).tolist())
        found.append({**part, "label": part["label"][:, :height, :width]})
    return found
