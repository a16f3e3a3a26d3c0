"""Max and average pooling."""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.ops.platform import uses_plain_forms

Padding = int | tuple[int, int]
"""The number of rows and columns that are added on each side, or at the top and left, and at the bottom and right."""


def max_pool(x: jax.Array, window: int = 2, *, stride: int | None = None, padding: Padding = 0) -> jax.Array:
    """Returns the maximum of each window; incomplete windows at the bottom or right are dropped.

    It equals `flax.linen.max_pool`, including its gradient: among equal values the first in row-major order receives
    the gradient. The maximum of a window with NaN is NaN. Implemented as a chain of selections, because the gradient of
    a windowed reduction is slow on the CPU; within `plain_forms` it is that reduction.

    Args:
      x: float[B, H, W, C].
      window: height and width of the window.
      stride: the stride of the window; None for the window's size.
      padding: the number of rows and columns of -inf on each side of the image; or a pair of those at the top and left,
        and at the bottom and right.

    Returns:
      float[B, H', W', C], where H' = (H + before + after - window) // stride + 1, and W' correspondingly.
    """
    stride = window if stride is None else stride
    if uses_plain_forms():
        # Padded first, because the conversion to ONNX ignores the padding of a pooling.
        windows, strides = (window, window), (stride, stride)
        return nn.max_pool(_padded(x, padding, -jnp.inf), window_shape=windows, strides=strides, padding="VALID")
    best, *others = _taps(_padded(x, padding, -jnp.inf), window, stride)
    for other in others:
        best = jnp.where((best >= other) | jnp.isnan(best), best, other)
    return best


def average_pool(x: jax.Array, window: int = 2, *, stride: int | None = None, padding: Padding = 0) -> jax.Array:
    """Returns the mean of each window, padding included; incomplete windows at the bottom or right are dropped.

    Args:
      x: float[B, H, W, C].
      window: height and width of the window.
      stride: the stride of the window; None for the window's size.
      padding: the number of rows and columns of zeros on each side of the image; or a pair of those at the top and
        left, and at the bottom and right.

    Returns:
      float[B, H', W', C], where H' = (H + before + after - window) // stride + 1, and W' correspondingly.
    """
    stride, x = window if stride is None else stride, _padded(x, padding, 0)
    if uses_plain_forms():
        return nn.avg_pool(x, window_shape=(window, window), strides=(stride, stride), padding="VALID")
    return sum(_taps(x, window, stride), start=jnp.zeros((), x.dtype)) / window**2


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Returns the means over a grid of size x size cells that cover the image, as PyTorch's AdaptiveAvgPool2d does.

    Cell i of an axis of length n covers pixels floor(i * n / size) up to ceil((i + 1) * n / size), so that cells
    overlap if n is not a multiple of `size`, and pixels repeat if n is smaller than `size`.

    Args:
      x: float[B, H, W, C].
      size: the number of cells along each axis.

    Returns:
      float[B, size, size, C] of x's dtype.
    """
    if size == 1:
        return x.mean((1, 2), keepdims=True)
    rows, columns = (_cells(length, size).astype(x.dtype) for length in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns, precision=highest)


def _padded(x: jax.Array, padding: Padding, value: float) -> jax.Array:
    """Returns `x` with rows and columns of a value around it."""
    pads = (padding, padding) if isinstance(padding, int) else padding
    return jnp.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=value) if any(pads) else x


def _taps(x: jax.Array, window: int, stride: int) -> Iterator[jax.Array]:
    """Yields, for each position in the window in row-major order, the values there in every window."""
    height, width = ((length - window) // stride + 1 for length in x.shape[1:3])
    for position in range(window * window):
        row, column = divmod(position, window)
        rows = slice(row, row + (height - 1) * stride + 1, stride)
        yield x[:, rows, column : column + (width - 1) * stride + 1 : stride]


def _cells(length: int, size: int) -> jax.Array:
    """Returns float[size, length]: row i holds the weight of each pixel in the mean of cell i."""
    # Known lengths give a constant, and symbolic ones a computation.
    xp: Any = np if isinstance(length, int) else jnp
    pixel = np.arange(length) if isinstance(length, int) else jax.lax.iota(jnp.int32, length)
    cell, total = np.arange(size), xp.asarray(length)
    first, end = cell * total // size, -(-(cell + 1) * total // size)
    inside = (pixel >= first[:, None]) & (pixel < end[:, None])
    return jnp.asarray(inside / inside.sum(1, keepdims=True))
