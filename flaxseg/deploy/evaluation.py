"""The evaluation of a saved network on a dataset."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flaxseg.data.pipeline import iterate
from flaxseg.data.types import Batch, SegmentationDataset
from flaxseg.errors import ArgumentError
from flaxseg.inference.blending import blended_logits
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.scorer import Scorer
from flaxseg.inference.scoring import EvalMetrics, merge_all
from flaxseg.inference.tiling import BLEND, BlendTiling

if TYPE_CHECKING:
    import grain


PaddedLogitsFn = Callable[[Any, Any], jax.Array]
"""Returns the logits of images and their extents, as `forward.padded_logits` does."""


def score_batches(
    logits_fn: PaddedLogitsFn,
    batches: "grain.MapDataset",
    *,
    tile: tuple[int, int] | None = None,
    tiling: BlendTiling = BLEND,
    stride: int = 1,
    scale: float | None = None,
    metrics: Sequence[str] = (),
    num_threads: int = -1,
) -> EvalMetrics:
    """Returns the scores of a network on all batches of an evaluation.

    Args:
      logits_fn: returns the logits float32[B, H, W, K] of images [B, H, W, C] with values 0..255, given the height and
        width of each in the upper left, int32[B, 2], or None for images that fill the arrays; jitted.
      batches: from `eval_batches`.
      tile: height and width of the tiles that images of their own sizes are predicted in; None predicts them at once.
      tiling: how these tiles overlap.
      stride: the stride of the network, for images of their own sizes that are predicted at once.
      scale: the scale of images of their own sizes; see `score_logits`.
      metrics: names of `flaxseg.metrics.METRICS` to compute in addition to the confusion matrix.
      num_threads: the number of threads that read images; -1: one per core.

    Raises:
      DataError: an example cannot be read.
    """
    score = Scorer(metrics=metrics, scale=scale)

    def logits_of(batch: Batch) -> jax.Array:
        if "extent" not in batch:
            return logits_fn(batch["image"], None)
        if tile is None:
            return whole_logits(logits_fn, batch["image"], batch["extent"], stride=stride)
        image, extent = jax.device_put((batch["image"], batch["extent"]))
        return blended_logits(lambda image: logits_fn(image, None), image, extent, tile=tile, tiling=tiling)

    def measured() -> Iterator[EvalMetrics]:
        reading = iterate(batches, num_threads=num_threads, prefetch=4)
        for batch in tqdm(reading, total=len(batches), desc="evaluate", unit="batch", leave=False, disable=None):
            labels = {key: value for key, value in batch.items() if key != "image"}
            yield score(logits_of(batch), labels)

    return merge_all(measured())


def whole_logits(logits_fn: PaddedLogitsFn, image: np.ndarray, extent: np.ndarray, *, stride: int) -> jax.Array:
    """Returns the logits of images of different sizes, each computed alone, at its own size.

    An image is padded to the next multiple of the stride, as the network itself does, so that few sizes are compiled.

    Args:
      logits_fn: as for `score_batches`.
      image: [B, H, W, C] with values 0..255; the images lie in the upper left.
      extent: int32[B, 2], the height and width of each image; 0 for none.
      stride: the stride of the network.

    Returns:
      float32[B, H, W, K]; zeros outside the images.
    """
    total: Any = None
    for row, (height, width) in enumerate(extent.tolist()):
        if not height * width:
            continue
        padded = (-(-height // stride) * stride, -(-width // stride) * stride)
        canvas = np.zeros((1, *padded, image.shape[3]), image.dtype)
        canvas[0, :height, :width] = image[row, :height, :width]
        logits = logits_fn(canvas, None if padded == (height, width) else extent[row : row + 1])
        if total is None:
            total = jnp.zeros((*image.shape[:3], logits.shape[3]), jnp.float32)
        total = total.at[row, :height, :width].set(logits[0, :height, :width])
    assert total is not None, "a batch has at least one image"
    return total


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
