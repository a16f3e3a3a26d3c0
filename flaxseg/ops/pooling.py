"""Max and average pooling."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np


def max_pool(x: jax.Array, window: int = 2, *, stride: int | None = None, padding: int = 0) -> jax.Array:
    """The maximum of each window x window block; a remainder at the bottom or right is dropped.

    Equal to `flax.linen.max_pool`, in gradients too: of equal values the first, row by row, gets the gradient. NaN
    wins over every number. Written as a chain of selections because the gradient of the usual windowed reduction is
    slow on the CPU.

    Args:
      x: float[B, H, W, C].
      window: height and width of a block.
      stride: step between blocks; None: they lie side by side.
      padding: rows and columns around the picture that never are the maximum.

    Returns:
      float[B, (H + 2 * padding - window) // stride + 1, likewise W, C].
    """
    best, *others = _taps(x, window, window if stride is None else stride, padding, fill=-jnp.inf)
    for other in others:
        best = jnp.where((best >= other) | jnp.isnan(best), best, other)
    return best


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Means of a grid of size x size cells that cover the picture, like PyTorch's AdaptiveAvgPool2d.

    Cell i of an axis of length n covers pixels floor(i * n / size) up to ceil((i + 1) * n / size), so cells overlap
    where n is not a multiple of `size`, and repeat where it is smaller.

    Args:
      x: float[B, H, W, C].
      size: cells along each axis.

    Returns:
      float[B, size, size, C] of x's dtype.
    """
    if size == 1:
        return x.mean((1, 2), keepdims=True)
    rows, columns = (jnp.asarray(_cells(length, size), x.dtype) for length in x.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bhwc,ih,jw->bijc", x, rows, columns, precision=highest)


def _taps(x: jax.Array, window: int, stride: int, padding: int, *, fill: float) -> Iterator[jax.Array]:
    """For each place in the window, row by row, the picture's values there."""
    if padding:
        around = (padding, padding)
        x = jnp.pad(x, ((0, 0), around, around, (0, 0)), constant_values=fill)
    height, width = ((length - window) // stride + 1 for length in x.shape[1:3])
    for place in range(window * window):
        row, column = divmod(place, window)
        rows = slice(row, row + (height - 1) * stride + 1, stride)
        yield x[:, rows, column : column + (width - 1) * stride + 1 : stride]


def _cells(length: int, size: int) -> np.ndarray:
    """float64[size, length]: row i holds what each pixel contributes to the mean of cell i."""
    first = np.arange(size) * length // size
    end = -(-(np.arange(size) + 1) * length // size)
    inside = (np.arange(length) >= first[:, None]) & (np.arange(length) < end[:, None])
    return inside / inside.sum(1, keepdims=True)
