"""Saved networks on the device, which predict batches of images at their own sizes."""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.data.types import bucket_size
from flaxseg.deploy.computation import Computation, folded
from flaxseg.deploy.images import NetworkImage
from flaxseg.deploy.outputs import UNCERTAINTIES, Prediction, fetch, finish, joined, rows_of
from flaxseg.deploy.saved import SavedModel
from flaxseg.deploy.tiles import make_tiles
from flaxseg.errors import ArgumentError, check_choice
from flaxseg.inference.tiling import ExactTiling, ImageLike, Tiling, Writable, tiled_logits
from flaxseg.inference.tta import NO_TTA, TTA

_MAX_STRIP_BYTES = 2**28
"""The size of resized logits on the device; larger images are finished in strips of rows."""


class Network:
    """A saved network, or several whose probabilities are averaged, on the device.

    Args:
      members: the networks and their weights, which go together (`check_members`).
      batch_size: the number of images, or of tiles of one image, that are predicted at once.
      tile: height and width of the tiles of a network that keeps the scale of images; see `make_tiles`.
      tiling: the name of a tiling, or a tiling; see `make_tiles`.
      halo: the halo of exact tiles; see `make_tiles`.
      tta: the copies of an image whose probabilities are averaged.
      fold: fold batch normalization into the convolutions for predictions.

    Attributes:
      logits: computes the logits of predictions; see `Computation`.
      exact: computes the logits as the evaluation of training does, with batch normalization.
      tiles: how large images are predicted.
      tta: the copies of an image whose probabilities are averaged.
      stride: images are padded to multiples of this number.
    """

    def __init__(
        self,
        members: Sequence[SavedModel],
        *,
        batch_size: int,
        tile: int | tuple[int, int] | None = None,
        tiling: str | Tiling = "blend",
        halo: int | None = None,
        tta: TTA = NO_TTA,
        fold: bool = True,
    ) -> None:
        self.tta = tta
        self._description = members[0].description
        self._batch_size = batch_size
        self.stride = math.lcm(*(getattr(member.model, "stride", 1) for member in members))
        self.exact = Computation(members, tta)
        self.logits = Computation([folded(member) for member in members], tta) if fold else self.exact
        # The probabilities of several members have been divided by their temperatures already.
        self._temperature = self._description.temperature if self.exact.ensemble.is_single else 1.0
        self.tiles = make_tiles(
            members, self.logits, self.logits.compile, tile=tile, tiling=tiling, halo=halo, batch_size=batch_size
        )
        if isinstance(self.tiles.tiling, ExactTiling) and not tta.is_identity:
            raise ArgumentError("tiling", "exact", "cannot be combined with test-time augmentation; use 'blend'")

    def predict(self, images: Iterable[NetworkImage], *, maps: Sequence[str] = ()) -> Iterator[Prediction]:
        """Yields the prediction for each image, in order; the device computes a batch while the last is fetched.

        Args:
          images: from `ImageReader`. Consecutive ones of the same shape and dtype are predicted together.
          maps: what to compute in addition to the classes: "probabilities", or a name of UNCERTAINTIES.

        Raises:
          ArgumentError: an unknown name.
        """
        for name in maps:
            check_choice("maps", name, ("probabilities", *UNCERTAINTIES))
        wanted = tuple(maps)
        running: list[tuple[Any, list[NetworkImage]]] = []
        for batch in self._batches(images):
            running.append((self._start(batch, wanted), batch))
            if len(running) > 1:
                yield from fetch(*running.pop(0))
        for started in running:
            yield from fetch(*started)

    def predict_into(self, image: ImageLike, out: Writable) -> None:
        """Predicts an image of any size in tiles, none of which stays in memory; see `Predictor.predict_into`.

        Args:
          image: [H, W, C] with values 0..255, of which blocks are read.
          out: what the most likely classes uint8[h, w] of blocks are assigned to.

        Raises:
          ArgumentError: the network takes images of one size only, or rescales them.
        """
        described = self._description
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
        self._tiled_classes(image, out=out)

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

    def _start(self, batch: Sequence[NetworkImage], maps: tuple[str, ...]) -> Any:
        """Sends a batch of images of one shape to the device.

        Returns:
          For each image its row in arrays that will hold the classes and the maps, and these arrays by name.
        """
        if self._is_tiled(batch[0]):
            return [(0, self._tiled(batch[0], maps))]
        rows, columns, channels = batch[0].pixels.shape
        stride = 1 if self._description.resize == "stretch" else self.stride
        height, width = -(-rows // stride) * stride, -(-columns // stride) * stride
        # One image alone compiles by itself; a batch that is not full is completed, to compile no further program.
        count = 1 if len(batch) == 1 else self._batch_size
        pixels = np.zeros((count, height, width, channels), batch[0].pixels.dtype)
        pixels[: len(batch), :rows, :columns] = [image.pixels for image in batch]
        extent = None if (rows, columns) == (height, width) else np.full((count, 2), (rows, columns), np.int32)
        logits = self.logits(pixels, extent, maps=maps)
        if self._description.resize == "keep" and all(image.size == (rows, columns) for image in batch):
            finished = self._finished(logits, maps)
            return [(row, finished) for row in range(len(batch))]
        logits = logits if extent is None else logits[:, :rows, :columns]
        parts = rows_of(logits)
        return [(0, self._resized(*part, image.size, maps)) for part, image in zip(parts, batch, strict=False)]

    def _is_tiled(self, image: NetworkImage) -> bool:
        size = image.pixels.shape[:2]
        return self._description.resize == "keep" and any(map(operator.gt, size, self.tiles.size))

    def _tiled(self, image: NetworkImage, maps: tuple[str, ...]) -> Any:
        """Returns the classes and the maps of a large image, on the host."""
        if image.size != image.pixels.shape[:2]:
            return self._resized(jnp.asarray(self._tiled_logits(image.pixels, maps)[None]), 0, image.size, maps)
        if not maps:
            return {"label": self._tiled_classes(image.pixels)[None]}
        logits = self._tiled_logits(image.pixels, maps)
        rows = max(_MAX_STRIP_BYTES // logits[0].nbytes, 1)
        strips = [
            jax.device_get(self._finished(jnp.asarray(logits[None, first : first + rows]), maps))
            for first in range(0, len(logits), rows)
        ]
        return joined(strips)

    def _tiled_logits(self, image: ImageLike, maps: tuple[str, ...]) -> np.ndarray:
        return self._stitched(functools.partial(self.logits, maps=maps), image)

    def _tiled_classes(self, image: ImageLike, **out: Any) -> np.ndarray:
        if isinstance(self.tiles.tiling, ExactTiling):
            # Tiles that are not averaged need not come back as logits.
            return self._stitched(lambda tiles: self._finished(self.logits(tiles), ())["label"], image, **out)
        return self._stitched(self.logits, image, reduce=lambda logits: logits.argmax(-1).astype(np.uint8), **out)

    def _stitched(self, function: Callable[[Any], jax.Array], image: ImageLike, **options: Any) -> np.ndarray:
        size, tiling = self.tiles.size, self.tiles.tiling
        return tiled_logits(function, image, tile=size, tiling=tiling, batch_size=self._batch_size, **options)

    def _finished(self, logits: jax.Array, maps: tuple[str, ...]) -> Any:
        """Returns the classes and the maps of logits at the sizes of the images."""
        options = {"canvas": None, "num_classes": self._description.num_classes, "maps": maps}
        return finish(logits, 0, None, 0, self._temperature, **options)

    def _resized(self, logits: jax.Array, row: int, size: tuple[int, int], maps: tuple[str, ...]) -> Any:
        """Returns the classes and the maps at one image's own size, on the device, or on the host if it is large.

        Large images are computed in strips, because logits at the size of a photograph can need gigabytes.
        """
        height, width = bucket_size(size[0]), bucket_size(size[1])
        rows, row_bytes = height, 4 * width * logits.shape[-1]
        while rows * row_bytes > _MAX_STRIP_BYTES and rows % 2 == 0:
            rows //= 2
        options = {"canvas": (rows, width), "num_classes": self._description.num_classes, "maps": maps}
        sizes = np.array([size], np.int32)

        def strip(first: int) -> Any:
            return finish(logits, row, sizes, first, self._temperature, **options)

        if rows == height:
            return strip(0)
        return joined([jax.device_get(strip(first)) for first in range(0, size[0], rows)])
