"""A saved network on the device, which predicts batches of images at their own sizes."""

import dataclasses
import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxseg.data.evaluation import bucket_size
from flaxseg.deploy.images import NetworkImage
from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import ArgumentError, check_choice, check_integer
from flaxseg.inference.exactness import exact_tiling, verify_exact
from flaxseg.inference.forward import padded_logits, padding_value
from flaxseg.inference.tiling import BlendTiling, ImageLike, Tiling, Writable, tiled_logits
from flaxseg.ops import resize_bilinear_ragged

_MAX_STRIP_BYTES = 2**28
"""The size of resized logits on the device; larger images are finished in strips of rows."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image, at the image's own size.

    Attributes:
      label: uint8[H, W], the most likely class of each pixel.
      probabilities: float32[H, W, K]; None unless asked for.
    """

    label: np.ndarray
    probabilities: np.ndarray | None = None


class Network:
    """A saved network on the device.

    Args:
      saved: the network and its weights.
      batch_size: the number of images, or of tiles of one image, that are predicted at once.
      tile: height and width of the tiles of a network that keeps the scale of images; one number for both. None takes
        the size of the images that it was trained on.
      tiling: "blend", "exact", "auto" (which is "blend"), or a tiling of `flaxseg.inference.tiling`.
    """

    def __init__(
        self,
        saved: SavedModel,
        *,
        batch_size: int,
        tile: int | tuple[int, int] | None = None,
        tiling: str | Tiling = "auto",
    ) -> None:
        self._saved = saved
        self._tile = _tile(saved, tile)
        self._batch_size = batch_size
        self._variables = jax.device_put(saved.variables)
        self._logits = jax.jit(functools.partial(padded_logits, model=saved.model))
        self._finish = jax.jit(_finish, static_argnames=("canvas", "probabilities"))
        self._tiling = self._make_tiling(tiling)

    def logits(self, image: Any, extent: Any = None) -> jax.Array:
        """Returns the logits float32[B, H, W, K] of images [B, H, W, C]; see `padded_logits`.

        Images whose number is a multiple of the number of local devices are spread over these.
        """
        devices = jax.local_devices()
        if len(devices) == 1 or len(image) % len(devices):
            return self._logits(self._variables, image, extent)
        sharding = NamedSharding(Mesh(np.asarray(devices), ("data",)), PartitionSpec("data"))
        return self._logits(self._replicated, *jax.device_put((image, extent), sharding))

    @functools.cached_property
    def _replicated(self) -> Any:
        """The variables on each local device."""
        mesh = Mesh(np.asarray(jax.local_devices()), ("data",))
        return jax.device_put(self._variables, NamedSharding(mesh, PartitionSpec()))

    def predict(self, images: Iterable[NetworkImage], *, probabilities: bool = False) -> Iterator[Prediction]:
        """Yields the prediction for each image, in order; the device computes a batch while the last is fetched.

        Args:
          images: from `reader`. Consecutive ones of the same shape and dtype are predicted together.
          probabilities: compute probabilities, too.
        """
        running: list[tuple[Any, list[NetworkImage]]] = []
        for batch in self._batches(images):
            running.append((self._start(batch, probabilities), batch))
            if len(running) > 1:
                yield from _fetch(*running.pop(0))
        for started in running:
            yield from _fetch(*started)

    def predict_into(self, image: ImageLike, out: Writable) -> None:
        """Predicts an image of any size in tiles, none of which stays in memory; see `Predictor.predict_into`.

        Args:
          image: [H, W, C] with values 0..255, of which blocks are read.
          out: what the most likely classes uint8[h, w] of blocks are assigned to.

        Raises:
          ArgumentError: the network takes images of one size only, or rescales them.
        """
        described = self._saved.description
        if described.resize != "keep" or described.scale != 1:
            rule = (
                f"resized to {described.image_size}" if described.resize != "keep" else f"scaled by {described.scale}"
            )
            raise ArgumentError(
                "image",
                list(image.shape),
                f"cannot be predicted in tiles, because the network was trained on images that were {rule}; predict it "
                "whole, or train a network with data.resize=keep and data.scale=1",
            )
        options: dict[str, Any] = {"tile": self._tile, "tiling": self._tiling, "batch_size": self._batch_size}
        tiled_logits(self.logits, image, reduce=lambda logits: logits.argmax(-1).astype(np.uint8), out=out, **options)

    def _batches(self, images: Iterable[NetworkImage]) -> Iterator[list[NetworkImage]]:
        batch: list[NetworkImage] = []
        for image in images:
            like = batch[0].pixels if batch else image.pixels
            fits = image.pixels.shape == like.shape and image.pixels.dtype == like.dtype
            if batch and (not fits or len(batch) == self._batch_size or self._is_tiled(image)):
                yield batch
                batch = []
            batch.append(image)
        if batch:
            yield batch

    def _start(self, batch: Sequence[NetworkImage], probabilities: bool) -> Any:
        """Sends a batch of images of one shape to the device.

        Returns:
          For each image its row in arrays that will hold the classes and the probabilities, and these arrays.
        """
        if self._is_tiled(batch[0]):
            return [(0, self._tiled(batch[0], probabilities))]
        rows, columns, channels = batch[0].pixels.shape
        stride = 1 if self._saved.description.resize == "stretch" else getattr(self._saved.model, "stride", 1)
        height, width = -(-rows // stride) * stride, -(-columns // stride) * stride
        # One image alone compiles by itself; a batch that is not full is completed, to compile no further program.
        count = 1 if len(batch) == 1 else self._batch_size
        pixels = np.zeros((count, height, width, channels), batch[0].pixels.dtype)
        pixels[: len(batch), :rows, :columns] = [image.pixels for image in batch]
        extent = None if (rows, columns) == (height, width) else np.full((count, 2), (rows, columns), np.int32)
        logits = self.logits(pixels, extent)
        if self._saved.description.resize == "keep" and all(image.size == (rows, columns) for image in batch):
            finished = self._finish(logits, 0, None, 0, canvas=None, probabilities=probabilities)
            return [(row, finished) for row in range(len(batch))]
        logits = logits if extent is None else logits[:, :rows, :columns]
        parts = _rows(logits)
        return [(0, self._resized(*part, image.size, probabilities)) for part, image in zip(parts, batch, strict=False)]

    def _is_tiled(self, image: NetworkImage) -> bool:
        size = image.pixels.shape[:2]
        return self._saved.description.resize == "keep" and any(map(operator.gt, size, self._tile))

    def _tiled(self, image: NetworkImage, probabilities: bool) -> Any:
        """Returns classes and probabilities of a large image, on the host."""
        tiled = functools.partial(
            tiled_logits, self.logits, image.pixels, tile=self._tile, tiling=self._tiling, batch_size=self._batch_size
        )
        if image.size != image.pixels.shape[:2]:
            return self._resized(jnp.asarray(tiled()[None]), 0, image.size, probabilities)
        if probabilities:
            logits = tiled()
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            return logits.argmax(-1).astype(np.uint8)[None], (weights / weights.sum(-1, keepdims=True))[None]
        return tiled(reduce=lambda logits: logits.argmax(-1).astype(np.uint8))[None], None

    def _make_tiling(self, tiling: str | Tiling) -> Tiling:
        if not isinstance(tiling, str):
            return tiling
        check_choice("tiling", tiling, ("auto", "blend", "exact"))
        model, channels = self._saved.model, self._saved.description.channels
        if tiling == "exact":
            exact = exact_tiling(model, self._saved.variables, channels)
            verify_exact(self.logits, tile=self._tile, tiling=exact, channels=channels)
            return exact
        return BlendTiling(stride=getattr(model, "stride", 1), fill=padding_value(model, channels))

    def _resized(self, logits: jax.Array, row: int, size: tuple[int, int], probabilities: bool) -> Any:
        """Returns classes and probabilities at one image's own size, on the device, or on the host if it is large.

        Large images are computed in strips, because logits at the size of a photograph can need gigabytes.
        """
        height, width = bucket_size(size[0]), bucket_size(size[1])
        rows, row_bytes = height, 4 * width * self._saved.description.num_classes
        while rows * row_bytes > _MAX_STRIP_BYTES and rows % 2 == 0:
            rows //= 2
        options = {"canvas": (rows, width), "probabilities": probabilities}
        finish = functools.partial(self._finish, logits, row, np.array([size], np.int32), **options)
        if rows == height:
            return finish(0)
        strips = [jax.device_get(finish(first)) for first in range(0, size[0], rows)]
        return jax.tree.map(lambda *parts: np.concatenate(parts, 1), *strips)


def _tile(saved: SavedModel, tile: int | tuple[int, int] | None) -> tuple[int, int]:
    if tile is None:
        return saved.description.image_size
    if saved.description.resize != "keep":
        raise ArgumentError(
            "tile",
            tile,
            f"this network was trained on images that were resized to {saved.description.image_size}, and predicts "
            "them whole; leave it out",
        )
    height, width = (tile, tile) if isinstance(tile, int) else tile
    check_integer("tile", height, 1)
    check_integer("tile", width, 1)
    return height, width


def _finish(
    logits: jax.Array,
    row: jax.Array,
    size: jax.Array | None,
    first_row: jax.Array,
    *,
    canvas: tuple[int, int] | None,
    probabilities: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """Returns classes and probabilities: of all images, or of one of them, resized to its own size in the upper left.

    Images are resized one by one, because the canvas of one is smaller than that of several.
    """
    if size is not None and canvas is not None:
        one = jax.lax.dynamic_slice_in_dim(logits, row, 1)
        logits = resize_bilinear_ragged(one, size, canvas, first_row=first_row)
    return logits.argmax(-1).astype(jnp.uint8), jax.nn.softmax(logits) if probabilities else None


def _rows(logits: jax.Array) -> Iterator[tuple[jax.Array, int]]:
    """Yields for each image the part of the logits on the image's own device, and its row in that part."""
    for shard in sorted(logits.addressable_shards, key=lambda shard: shard.index[0].start or 0):
        yield from ((shard.data, row) for row in range(len(shard.data)))


def _fetch(computed: Sequence[Any], batch: Sequence[NetworkImage]) -> Iterator[Prediction]:
    for (row, finished), image in zip(computed, batch, strict=True):
        height, width = image.size
        label, probabilities = jax.device_get(finished)
        found = None if probabilities is None else np.ascontiguousarray(probabilities[row, :height, :width])
        yield Prediction(np.ascontiguousarray(label[row, :height, :width]), found)
