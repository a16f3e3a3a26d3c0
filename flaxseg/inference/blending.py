"""Batches of whole images of different sizes: their logits from overlapping windows of one size, on the device."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.errors import ArgumentError

LogitsFn = Callable[[jax.Array], jax.Array]
"""Images [B, h, w, C] with values 0..255 -> logits float32[B, h, w, K]."""

_STANDARD_DEVIATION = 1 / 8
"""Of the Gaussian, as a fraction of the sides of a window."""

_MIN_WEIGHT = 1e-3
"""The smallest weight along an axis, so that no pixel rests on rounding errors."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Where windows lie in images: at equal distances from the upper left, and the last at the lower right edge.

    Windows that overlap are weighted by a Gaussian, so that pixels near the border of a window, which the network sees
    little context of, count less (Isensee et al. 2021, https://arxiv.org/abs/1904.08128).

    Attributes:
      size: height and width of a window.
      overlap: the fraction of a window's side that neighboring windows share at least, from 0 to below 1.

    Raises:
      ArgumentError: an overlap out of range.
    """

    size: tuple[int, int]
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ArgumentError("overlap", self.overlap, "must be a number from 0 to below 1")

    @property
    def strides(self) -> tuple[int, int]:
        """The largest distance of neighboring windows, in pixels along each axis."""
        height, width = (max(1, math.floor(side * (1 - self.overlap))) for side in self.size)
        return height, width

    @property
    def weight(self) -> np.ndarray:
        """The weight of each pixel of a window, float32[h, w], above 0."""
        rows, columns = (_gaussian(side) for side in self.size)
        return np.outer(rows, columns).astype(np.float32)

    def grid(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Returns the number of windows along each axis that an image of this size needs."""
        rows, columns = (
            1 + max(0, math.ceil((length - side) / stride))
            for length, side, stride in zip(canvas, self.size, self.strides, strict=True)
        )
        return rows, columns

    def starts(self, extent: jax.Array, row: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns where a window begins in each image, and whether the image needs it.

        Args:
          extent: int32[B, 2], height and width of each image.
          row: int32 scalar, the number of the window along the first axis.
          column: int32 scalar, the number of the window along the second axis.

        Returns:
          int32[B, 2], and bool[B].
        """
        position, strides = jnp.stack([row, column]), jnp.asarray(self.strides)
        excess = jnp.maximum(extent - jnp.asarray(self.size), 0)
        last = -(-excess // strides)
        return jnp.minimum(position * strides, excess), (position <= last).all(-1)


def windowed_logits(logits_fn: LogitsFn, image: jax.Array, extent: jax.Array, *, windows: Windows) -> jax.Array:
    """Returns the logits of images of different sizes, each of which depends on its own image alone.

    The network sees windows of one size, so that it is compiled once. Where a single window covers an image, the logits
    are those of the network unchanged.

    Args:
      logits_fn: a jitted function; called with windows of all images of the batch at once.
      image: [B, H, W, C] with values 0..255, at least as large as a window; the images lie in the upper left of zeros.
      extent: int32[B, 2], height and width of each image.
      windows: the windows.

    Returns:
      float32[B, H, W, K]; unspecified outside the images.
    """
    canvas = (image.shape[1], image.shape[2])
    grid = windows.grid(canvas)
    total = None
    for index in np.ndindex(grid):
        start, is_used = _starts(extent, *map(np.int32, index), windows=windows)
        logits = logits_fn(_cut(image, start, windows.size))
        if grid == (1, 1):
            # The canvas has the size of the window, and averaging could only add rounding errors.
            return logits
        if total is None:
            total = _zeros(logits, canvas)
        total = _add(total, logits, start, is_used, windows=windows)
    assert total is not None, "a grid has at least one window"
    return _average(total)


def _gaussian(side: int) -> np.ndarray:
    """Returns the weights of the pixels along a side."""
    distance = (np.arange(side) + 0.5) / side - 0.5
    return np.maximum(np.exp(-0.5 * (distance / _STANDARD_DEVIATION) ** 2), _MIN_WEIGHT)


@functools.partial(jax.jit, static_argnames="windows")
def _starts(extent: jax.Array, row: jax.Array, column: jax.Array, *, windows: Windows) -> tuple[jax.Array, jax.Array]:
    return windows.starts(extent, row, column)


@functools.partial(jax.jit, static_argnums=2)
def _cut(image: jax.Array, start: jax.Array, size: tuple[int, int]) -> jax.Array:
    def cut(one: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(one, (begin[0], begin[1], 0), (*size, one.shape[2]))

    return jax.vmap(cut)(image, start)


@functools.partial(jax.jit, static_argnums=1)
def _zeros(logits: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Returns zeros for the weighted sums of logits and, in a last channel, the sums of the weights."""
    return jnp.zeros((logits.shape[0], *canvas, logits.shape[3] + 1), jnp.float32)


@functools.partial(jax.jit, static_argnames="windows", donate_argnums=0)
def _add(total: jax.Array, logits: jax.Array, start: jax.Array, is_used: jax.Array, *, windows: Windows) -> jax.Array:
    weight = windows.weight[..., None]

    def add(one: jax.Array, window: jax.Array, begin: jax.Array, used: jax.Array) -> jax.Array:
        at = (begin[0], begin[1], jnp.int32(0))
        addend = jnp.concatenate([window * weight, jnp.asarray(weight)], -1) * used
        return jax.lax.dynamic_update_slice(one, jax.lax.dynamic_slice(one, at, addend.shape) + addend, at)

    return jax.vmap(add)(total, logits, start, is_used)


@jax.jit
def _average(total: jax.Array) -> jax.Array:
    return total[..., :-1] / jnp.maximum(total[..., -1:], np.finfo(np.float32).tiny)
