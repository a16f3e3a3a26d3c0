"""The positions, kept parts and weights of tiles along one axis of an image."""

import itertools
from typing import NamedTuple

import numpy as np

from flaxseg.errors import ArgumentError


class Axis(NamedTuple):
    """The tiles along one axis of an image."""

    length: int
    """Of the image; or its next multiple of the stride, where the image is padded to it."""
    tile: int
    """Length of every tile."""
    starts: list[int]
    """First pixel of each tile, ascending from 0; the last tile ends at `length`."""
    kept: list[slice]
    """The pixels of the image that are taken from each tile; empty for tiles that are blended."""
    weights: np.ndarray
    """float32[tiles, tile], the weights of each tile's pixels, which sum to 1 per pixel; empty for exact tiles."""


def exact_axis(length: int, tile: int, *, halo: int, stride: int, pad: bool) -> Axis:
    """Returns the tiles that overlap by a halo on either side of each inner border.

    The last tile is shifted inwards to end where the image does.

    Args:
      length: length of the image.
      tile: length of the tiles, a multiple of the stride.
      halo: pixels from a tile's border that are dropped, except at the image's borders.
      stride: tiles begin at multiples of it.
      pad: let the last tile cover the image as padded to a multiple of the stride. Otherwise all tiles are shorter by
        that padding, and the network itself pads each of them.

    Raises:
      ArgumentError: the tile is not a multiple of the stride, or too small for the halo.
    """
    if tile % stride:
        raise ArgumentError("tile", tile, f"must be a multiple of stride = {stride}")
    padding = -length % stride
    padded = length + padding
    if tile >= padded:
        size = padded if pad else length
        return Axis(size, size, [0], [slice(0, length)], NO_WEIGHTS)
    step = tile - 2 * halo - (0 if pad or not padding else stride)
    if step < stride:
        needed = tile - step + stride
        raise ArgumentError("tile", tile, f"must be at least {needed} for a halo of {halo}, or as large as the image")
    total, tile = (padded, tile) if pad else (length, tile - padding)
    starts = _starts(total, tile, step)
    # The pixels of a tile that begins at `start` are exact from `start + halo` on, so that each begins where it can.
    cuts = [0, *(start + halo for start in starts[1:]), length]
    kept = [slice(low, high) for low, high in itertools.pairwise(cuts)]
    return Axis(total, tile, starts, kept, NO_WEIGHTS)


def blend_axis(length: int, tile: int, *, step: int, weights: np.ndarray) -> Axis:
    """Returns tiles that are blended, at most `step` apart; an image shorter than a tile is a tile of its own.

    Args:
      length: length of the image.
      tile: length of the tiles.
      step: the largest distance between the beginnings of tiles, at most `tile`.
      weights: float64[tile], above 0, the weights of a tile's pixels before they are made to sum to 1 per pixel.
    """
    if tile >= length:
        return Axis(length, length, [0], [], np.ones((1, length), np.float32))
    starts = _starts(length, tile, step)
    sums = np.zeros(length)
    for start in starts:
        sums[start : start + tile] += weights
    normalized = np.stack([weights / sums[start : start + tile] for start in starts])
    return Axis(length, tile, starts, [], normalized.astype(np.float32))


def gaussian(tile: int, sigma: float) -> np.ndarray:
    """Returns the weights of the pixels along a tile, float64[tile]: 1 in the middle, and at least MIN_WEIGHT.

    Args:
      tile: length of the tile.
      sigma: standard deviation, as a fraction of the tile.
    """
    distance = (np.arange(tile) + 0.5) / tile - 0.5
    return np.maximum(np.exp(-0.5 * (distance / sigma) ** 2), MIN_WEIGHT)


NO_WEIGHTS = np.empty((0, 0), np.float32)

MIN_WEIGHT = 1e-3
"""The smallest weight of a pixel, so that none rests on rounding errors."""


def _starts(length: int, tile: int, step: int) -> list[int]:
    """Returns the beginnings of tiles from 0 on, `step` apart, the last shifted to end at `length`."""
    return [*range(0, length - tile, step), length - tile]
