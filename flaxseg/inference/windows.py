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


def blend_axis(length: int, tile: int, *, step: int, sigma: float, stride: int, pad: bool) -> Axis:
    """Returns tiles with Gaussian weights, at most `step` apart; an image shorter than a tile is a tile of its own.

    Args:
      length: length of the image.
      tile: length of the tiles.
      step: the largest distance between the beginnings of tiles, at most `tile`.
      sigma: standard deviation of the weights, in pixels.
      stride: tiles begin at multiples of it where `step` is as long, except for the last without `pad`.
      pad: let the last tile cover the image as padded to a multiple of the stride.
    """
    total = length + (-length % stride if pad else 0)
    if tile >= total:
        return Axis(total, total, [0], [], np.ones((1, total), np.float32))
    starts = _starts(total, tile, step // stride * stride or step)
    distance = np.arange(tile) - (tile - 1) / 2
    # Far from the center, weights would underflow; where there is only one tile, any positive weight is 1.
    gaussian = np.maximum(np.exp(-0.5 * (distance / sigma) ** 2), MIN_WEIGHT)
    sums = np.zeros(total)
    for start in starts:
        sums[start : start + tile] += gaussian
    weights = np.stack([gaussian / sums[start : start + tile] for start in starts])
    return Axis(total, tile, starts, [], weights.astype(np.float32))


NO_WEIGHTS = np.empty((0, 0), np.float32)

MIN_WEIGHT = 1e-3
"""The smallest weight of a pixel, relative to the center of the tile."""


def _starts(length: int, tile: int, step: int) -> list[int]:
    """Returns the beginnings of tiles from 0 on, `step` apart, the last shifted to end at `length`."""
    return [*range(0, length - tile, step), length - tile]
