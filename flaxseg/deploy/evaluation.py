"""The evaluation of a saved network on a dataset."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
from tqdm import tqdm

from flaxseg.data.pipeline import iterate
from flaxseg.data.types import Batch, SegmentationDataset
from flaxseg.errors import ArgumentError
from flaxseg.inference.blending import blended_logits
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.scoring import EvalMetrics, merge_all, score_logits
from flaxseg.inference.tiling import BlendTiling

if TYPE_CHECKING:
    import grain


def score_batches(
    logits_fn: Callable[[jax.Array], jax.Array],
    batches: "grain.MapDataset",
    *,
    tile: tuple[int, int] | None = None,
    scale: float | None = None,
    metrics: Sequence[str] = (),
    num_threads: int = -1,
) -> EvalMetrics:
    """Returns the scores of a network on all batches of an evaluation.

    Args:
      logits_fn: returns the logits float32[B, H, W, K] of images [B, H, W, C] with values 0..255.
      batches: from `eval_batches`.
      tile: height and width of the tiles that images of their own sizes are predicted in; None predicts them at once.
      scale: the scale of images of their own sizes; see `score_logits`.
      metrics: names of `flaxseg.metrics.METRICS` to measure beside the confusion matrix.
      num_threads: the number of threads that read images; -1: one per core.

    Raises:
      DataError: an example cannot be read.
    """
    score = jax.jit(functools.partial(score_logits, metrics=tuple(metrics), scale=scale))

    def logits_of(batch: Batch) -> jax.Array:
        if tile is None:
            return logits_fn(batch["image"])
        image, extent = jax.device_put((batch["image"], batch["extent"]))
        return blended_logits(logits_fn, image, extent, tile=tile, tiling=BlendTiling())

    def measured() -> Iterator[EvalMetrics]:
        reading = iterate(batches, num_threads=num_threads, prefetch=4)
        for batch in tqdm(reading, total=len(batches), desc="evaluate", unit="batch", leave=False, disable=None):
            labels = {key: value for key, value in batch.items() if key != "image"}
            yield score(logits_of(batch), labels)

    return merge_all(measured())


def check_same_classes(description: ModelDescription, dataset: SegmentationDataset) -> None:
    """Checks that a dataset has as many classes as a network, and not the same ones in another order.

    Raises:
      ArgumentError: it has not; the message lists the classes of both.
    """
    own, names = description.class_names, dataset.class_names
    problem = ""
    if len(names) != len(own):
        problem = f"has {len(names)} classes, but the network {len(own)}"
    elif names != own and sorted(names) == sorted(own):
        problem = "has the classes of the network in another order"
    if problem:
        raise ArgumentError(
            "dataset",
            ", ".join(names),
            f"{problem}: {', '.join(own)}; give a dataset with the classes that the network was trained on",
        )
