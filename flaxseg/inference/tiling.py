"""Logits of large images, computed in tiles of one static shape that are read from and written to the host."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from flaxseg.errors import POSITIVE, ArgumentError, Range, check_integer
from flaxseg.inference.windows import Axis, blend_axis, exact_axis, gaussian

LogitsFn = Callable[[Any], Any]
"""Returns the logits [B, h, w, K] of images float32[B, h, w, C] with values 0..255; jitted, parameters inside."""


class ImageLike(Protocol):
    """An image [H, W, C] with values 0..255, such as an array or a memory map; only slices of it are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Returns a slice of rows and columns."""
        ...


class Writable(Protocol):
    """An array [H, W, ...], such as a memory map, that slices of rows and columns are assigned to."""

    def __setitem__(self, key: Any, value: Any, /) -> None:
        """Assigns a slice of rows and columns."""
        ...


@dataclasses.dataclass(frozen=True)
class ExactTiling:
    """Tiles that overlap so far that the stitched logits equal those of the whole image.

    `exactness.exact_tiling` returns it for a network. The outer borders of the image are the borders of the outer
    tiles, so that these see the same padding as the whole image. A smaller `halo` is faster and no longer exact; see
    `exactness.tiling_error`.

    Attributes:
      halo: pixels from a tile's border that are dropped, except at the image's own border; a multiple of `stride`.
      stride: the network's stride: tiles begin at multiples of it.
      fill: the value of each channel, 0..255, that the network normalizes to 0, with which it pads images to multiples
        of its stride. With it, tiles of all images have one shape, a multiple of the stride, and so one compiled
        program; its rounding can differ from that of the program for the whole image (1e-6 of the largest logit was
        seen). None: unknown; tiles are a little smaller instead, by what the network itself pads the image with.
    """

    halo: int
    stride: int
    fill: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_integer("stride", self.stride, 1)
        check_integer("halo", self.halo, 0)
        if self.halo % self.stride:
            raise ArgumentError("halo", self.halo, f"must be a multiple of stride = {self.stride}")

    def axis(self, length: int, tile: int) -> Axis:
        """Returns the tiles along an axis of an image.

        Raises:
          ArgumentError: the tile is too small for the halo.
        """
        return exact_axis(length, tile, halo=self.halo, stride=self.stride, pad=self.fill is not None)


@dataclasses.dataclass(frozen=True)
class BlendTiling:
    """Overlapping tiles whose logits are averaged with Gaussian weights, for any network.

    Pixels near the border of a tile, which the network sees little context of, count less. The weights of all tiles at
    a pixel sum to 1 (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z). Tiles lie at equal distances
    from the upper left, except for the last, which ends where the image does.

    Attributes:
      overlap: fraction of a tile that the next one overlaps at least, from 0 to below 1.
      sigma: standard deviation of the weights, as a fraction of the tile.
    """

    overlap: float = 0.5
    sigma: float = 0.125

    def __post_init__(self) -> None:
        Range(0, 1, below=True).check("overlap", self.overlap)
        POSITIVE.check("sigma", self.sigma)

    def step(self, tile: int) -> int:
        """Returns the distance of neighboring tiles of this length, in pixels."""
        return max(int(tile * (1 - self.overlap)), 1)

    def weights(self, tile: int) -> np.ndarray:
        """Returns the weights of the pixels along a tile, float64[tile], before they are made to sum to 1."""
        return gaussian(tile, self.sigma)

    def axis(self, length: int, tile: int) -> Axis:
        """Returns the tiles along an axis of an image."""
        return blend_axis(length, tile, step=self.step(tile), weights=self.weights(tile))


BLEND = BlendTiling()
"""The tiling of evaluations, and of predictions unless another is given."""

Tiling = ExactTiling | BlendTiling


def tiled_logits(
    logits_fn: LogitsFn,
    image: ImageLike,
    *,
    tile: int | tuple[int, int],
    tiling: Tiling,
    batch_size: int = 1,
    num_classes: int | None = None,
    reduce: Callable[[np.ndarray], np.ndarray] | None = None,
    out: Any = None,
) -> Any:
    """Returns the logits of an image of any size, or what `reduce` makes of them.

    Only `2 * batch_size` tiles are on the device at a time, all of one shape. An image that is smaller than the tile
    along an axis is computed at its own size along that axis. On the host, `ExactTiling` holds a few tiles, and
    `BlendTiling` one row of tiles, float32[tile, W, K]; so with `reduce` and `out`, an image and its result can be
    larger than memory.

    Args:
      logits_fn: the network. With `ExactTiling`, it can return anything of shape [B, h, w, ...], such as class indices.
      image: [H, W, C] with values 0..255, such as an array or a memory map.
      tile: height and width of the tiles; one number for both. With `ExactTiling`, multiples of the stride.
      tiling: `ExactTiling` or `BlendTiling`.
      batch_size: number of tiles that are computed at once.
      num_classes: the number of channels of the logits, which is then checked.
      reduce: applied to blocks of finished logits, float32[h, w, K], of varying size; returns [h, w, ...], for example
        `lambda logits: logits.argmax(-1).astype("uint8")`.
      out: the array that the result is assigned to, block by block, such as a memory map; None: a new array.

    Returns:
      `out`, or a new array [H, W, K], or [H, W, ...] of what `reduce` returns.

    Raises:
      ArgumentError: the image is not [H, W, C], the tile does not fit the tiling, or the logits are not `num_classes`.
    """
    check_integer("batch_size", batch_size, 1)
    plan = _plan(image.shape, tile, tiling)
    fill = tiling.fill if isinstance(tiling, ExactTiling) else None
    computed = _computed(logits_fn, image, plan, batch_size, fill)
    blocks = _cropped(computed, plan) if isinstance(tiling, ExactTiling) else _blended(computed, plan)
    for rows, columns, block in blocks:
        if num_classes not in (None, block.shape[-1]):
            raise ArgumentError("num_classes", num_classes, f"the network returns {block.shape[-1]} channels")
        result = block if reduce is None else np.asarray(reduce(block))
        if out is None:
            out = np.empty((*image.shape[:2], *result.shape[2:]), result.dtype)
        out[rows, columns] = result
    return out


def overhead(size: tuple[int, int], *, tile: int | tuple[int, int], tiling: Tiling) -> float:
    """Returns how many pixels are computed for each pixel of an image of this height and width."""
    plan = _plan((*size, 1), tile, tiling)
    tiles = len(plan.rows.starts) * len(plan.columns.starts)
    return tiles * plan.rows.tile * plan.columns.tile / (size[0] * size[1])


class _Plan(NamedTuple):
    size: tuple[int, int]
    rows: Axis
    columns: Axis


class _Tile(NamedTuple):
    row: int
    """Its number among `rows.starts`."""
    column: int
    values: np.ndarray
    """[h, w, ...]."""


Block = tuple[slice, slice, np.ndarray]
"""Finished rows and columns of the image, and their values."""


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    check_integer("tile", height, 1)
    check_integer("tile", width, 1)
    return height, width


def _plan(shape: tuple[int, ...], tile: int | tuple[int, int], tiling: Tiling) -> _Plan:
    if len(shape) != 3 or 0 in shape:
        raise ArgumentError("image.shape", tuple(shape), "must be [H, W, C], with at least one pixel")
    height, width = _pair(tile)
    return _Plan((shape[0], shape[1]), tiling.axis(shape[0], height), tiling.axis(shape[1], width))


def _computed(
    logits_fn: LogitsFn, image: ImageLike, plan: _Plan, batch_size: int, fill: tuple[float, ...] | None
) -> Iterator[_Tile]:
    """Yields the tiles in row-major order; while the host handles one batch, the device computes the next."""
    positions = [(i, j) for i in range(len(plan.rows.starts)) for j in range(len(plan.columns.starts))]
    batch_size = min(batch_size, len(positions))
    pending: tuple[list[tuple[int, int]], jax.Array] | None = None
    for first in range(0, len(positions), batch_size):
        batch = positions[first : first + batch_size]
        # The last batch is completed with copies of its last tile.
        pixels = [_pixels(image, plan, position, fill) for position in batch]
        pixels += [pixels[-1]] * (batch_size - len(batch))
        started = (batch, logits_fn(np.stack(pixels)))
        if pending:
            yield from _fetched(*pending)
        pending = started
    if pending:
        yield from _fetched(*pending)


def _pixels(image: ImageLike, plan: _Plan, position: tuple[int, int], fill: tuple[float, ...] | None) -> np.ndarray:
    top, left = plan.rows.starts[position[0]], plan.columns.starts[position[1]]
    height, width = plan.rows.tile, plan.columns.tile
    pixels = np.asarray(image[top : top + height, left : left + width], np.float32)
    if pixels.shape[:2] == (height, width):
        return pixels
    padded = np.empty((height, width, pixels.shape[2]), np.float32)
    padded[...] = fill if fill is not None else 0
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded


def _fetched(batch: list[tuple[int, int]], logits: jax.Array) -> Iterator[_Tile]:
    host = np.asarray(logits)
    for (row, column), values in zip(batch, host, strict=False):
        yield _Tile(row, column, values)


def _cropped(tiles: Iterator[_Tile], plan: _Plan) -> Iterator[Block]:
    """Yields the part of each tile that is kept."""
    for tile in tiles:
        rows, columns = plan.rows.kept[tile.row], plan.columns.kept[tile.column]
        top, left = plan.rows.starts[tile.row], plan.columns.starts[tile.column]
        yield rows, columns, tile.values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def _blended(tiles: Iterator[_Tile], plan: _Plan) -> Iterator[Block]:
    """Yields rows of the weighted sums of tiles, as soon as no further tile contributes to them."""
    (height, width), starts = plan.size, plan.rows.starts
    strip, row = np.zeros(0, np.float32), 0
    columns = slice(0, width)

    def finished(end: int) -> Block:
        end = min(end, height)
        return slice(starts[row], end), columns, strip[: end - starts[row], :width]

    for tile in tiles:
        if not strip.size:
            strip = np.zeros((plan.rows.tile, plan.columns.length, tile.values.shape[-1]), np.float32)
        if tile.row > row:
            yield finished(starts[tile.row])
            moved = starts[tile.row] - starts[row]
            strip = np.concatenate([strip[moved:], np.zeros_like(strip[:moved])])
            row = tile.row
        left = plan.columns.starts[tile.column]
        weights = plan.rows.weights[tile.row][:, None] * plan.columns.weights[tile.column]
        strip[:, left : left + plan.columns.tile] += tile.values * weights[..., None]
    yield finished(height)
