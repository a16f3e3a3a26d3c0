"""The evaluation of a saved network on a dataset."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flaxseg.data.evaluation import eval_batches
from flaxseg.data.pipeline import iterate
from flaxseg.data.types import Batch, SegmentationDataset, bucket_size
from flaxseg.errors import ArgumentError
from flaxseg.inference.blending import blended_logits
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.scorer import Scorer
from flaxseg.inference.scoring import EvalMetrics, logits_of_labels, merge_all
from flaxseg.inference.tiling import BLEND, BlendTiling
from flaxseg.ops.resize import are_rows_last

if TYPE_CHECKING:
    import grain


PaddedLogitsFn = Callable[[Any, Any], jax.Array]
"""Returns the logits of images and their extents, as `forward.padded_logits` does."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates a saved network on datasets.

    Attributes:
      logits_fn: returns the logits float32[B, H, W, K] of images [B, H, W, C] with values 0..255, given the height and
        width of each in the upper left, int32[B, 2], or None for images that fill the arrays; jitted.
      image_size: the height and width that images are resized to; of images of their own sizes, the smallest.
      batch_size: the number of images that are predicted at once.
      native: score each image at its own size.
      tile: height and width of the tiles that images of their own sizes are predicted in; None predicts them at once.
      tiling: how these tiles overlap.
      stride: the stride of the network, for images of their own sizes that are predicted at once.
      scale: the scale of images of their own sizes; None for images that are resized. See `score_logits`.
      num_threads: the number of threads that read images; -1: one per core.
    """

    logits_fn: PaddedLogitsFn
    image_size: tuple[int, int]
    batch_size: int
    native: bool
    tile: tuple[int, int] | None = None
    tiling: BlendTiling = BLEND
    stride: int = 1
    scale: float | None = None
    num_threads: int = -1

    def scores(self, dataset: SegmentationDataset, metrics: Sequence[str] = ()) -> EvalMetrics:
        """Returns the scores of the network on a dataset.

        Args:
          dataset: the dataset.
          metrics: names of `flaxseg.metrics.METRICS` to compute in addition to the confusion matrix.

        Raises:
          DataError: an example cannot be read.
        """
        score, batches = Scorer(metrics=metrics, scale=self.scale), self._batches(dataset)

        def measured() -> Iterator[EvalMetrics]:
            reading = iterate(batches, num_threads=self.num_threads, prefetch=4)
            for batch in tqdm(reading, total=len(batches), desc="evaluate", unit="batch", leave=False, disable=None):
                labels = {key: value for key, value in batch.items() if key != "image"}
                yield score(self._logits(batch), labels)

        return merge_all(measured())

    def predictions(self, dataset: SegmentationDataset, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """Yields the most likely class of each pixel of some examples, uint8[h, w], as `scores` counts it.

        An example is predicted in its batch of the evaluation, so that the same program computes it.

        Args:
          dataset: the dataset.
          indices: of the examples.

        Raises:
          DataError: an example cannot be read.
        """
        batches = self._batches(dataset)
        for index in indices:
            batch, row = batches[index // self.batch_size], index % self.batch_size
            logits, canvas = self._logits(batch), batch["label"].shape[1:]
            example = {key: values[row : row + 1] for key, values in batch.items() if key != "image"}
            height, width = example["size"][0].tolist() if "size" in example else canvas
            example["label"] = example["label"][:, : bucket_size(height), : bucket_size(width)]
            rows_last = are_rows_last(logits.shape, canvas)
            found = _classes(logits[row : row + 1], example, scale=self.scale, rows_last=rows_last)
            yield np.asarray(found)[0, :height, :width]

    def _batches(self, dataset: SegmentationDataset) -> "grain.MapDataset":
        return eval_batches(
            dataset, image_size=self.image_size, batch_size=self.batch_size, native=self.native, scale=self.scale
        )

    def _logits(self, batch: Batch) -> jax.Array:
        if "extent" not in batch:
            return self.logits_fn(batch["image"], None)
        if self.tile is None:
            return whole_logits(self.logits_fn, batch["image"], batch["extent"], stride=self.stride)
        image, extent = jax.device_put((batch["image"], batch["extent"]))
        network = lambda image: self.logits_fn(image, None)  # noqa: E731
        return blended_logits(network, image, extent, tile=self.tile, tiling=self.tiling)


@functools.partial(jax.jit, static_argnames=("scale", "rows_last"))
def _classes(logits: jax.Array, batch: Batch, *, scale: float | None, rows_last: bool) -> jax.Array:
    return logits_of_labels(logits, batch, scale=scale, rows_last=rows_last).argmax(-1).astype(jnp.uint8)


def whole_logits(logits_fn: PaddedLogitsFn, image: np.ndarray, extent: np.ndarray, *, stride: int) -> jax.Array:
    """Returns the logits of images of different sizes, each computed alone, at its own size.

    An image is padded to the next multiple of the stride, as the network itself does, so that few sizes are compiled.

    Args:
      logits_fn: as for `Evaluator`.
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
