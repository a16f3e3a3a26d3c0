"""Resizing: bilinear as two matrix products, and nearest neighbor, without antialiasing."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_bilinear(x: jax.Array, size: tuple[int, int], *, align_corners: bool = False) -> jax.Array:
    """Bilinear resize, equal to `jax.image.resize(..., antialias=False)`.

    Two products with constant matrices, so it runs on matrix units and exports with a symbolic batch.

    Args:
      x: float[B, h, w, C].
      size: output height and width.
      align_corners: the centers of the outermost pixels stay where they are, instead of the pixels' outer edges; as
        in PyTorch. For networks that were trained so.

    Returns:
      float[B, *size, C] of x's dtype.
    """
    (height, width), (new_height, new_width) = x.shape[1:3], size
    if (height, width) == (new_height, new_width):
        return x
    weights = _corner_weights if align_corners else _constant_weights
    rows = jnp.asarray(weights(height, new_height), x.dtype)
    columns = jnp.asarray(weights(width, new_width), x.dtype)
    # The order that makes the smaller intermediate.
    if new_height * width <= height * new_width:
        x = _einsum("bhwc,Hh->bHwc", x, rows)
        return _einsum("bhwc,Ww->bhWc", x, columns)
    x = _einsum("bhwc,Ww->bhWc", x, columns)
    return _einsum("bhwc,Hh->bHwc", x, rows)


def resize_bilinear_ragged(x: jax.Array, sizes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Bilinear resize of each example to a size of its own, in the upper left of a common canvas.

    Args:
      x: float[B, h, w, C].
      sizes: int[B, 2], each example's new height and width: 1.. the canvas's. Need not be static.
      canvas: height and width of the output.

    Returns:
      float[B, *canvas, C]; example i's upper-left `sizes[i]` is `resize_bilinear(x[i], sizes[i])`. What lies
      outside is finite and otherwise arbitrary.
    """
    rows = _dynamic_weights(x.shape[1], sizes[:, 0], canvas[0]).astype(x.dtype)
    columns = _dynamic_weights(x.shape[2], sizes[:, 1], canvas[1]).astype(x.dtype)
    if canvas[0] * x.shape[2] <= x.shape[1] * canvas[1]:
        return _einsum("bhwc,bWw->bhWc", _einsum("bhwc,bHh->bHwc", x, rows), columns)
    return _einsum("bhwc,bHh->bHwc", _einsum("bhwc,bWw->bhWc", x, columns), rows)


def resize_nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Nearest-neighbor resize, equal to `jax.image.resize(..., "nearest")`.

    Args:
      x: any dtype[B, h, w, C].
      size: output height and width.

    Returns:
      [B, *size, C] of x's dtype.
    """
    return _nearest_along(_nearest_along(x, 1, size[0]), 2, size[1])


def _einsum(formula: str, x: jax.Array, weights: jax.Array) -> jax.Array:
    # Accelerators would otherwise round float32 to fewer bits, which shows in pictures and logits.
    return jnp.einsum(formula, x, weights, precision=lax.Precision.HIGHEST)


def _constant_weights(old: int, new: int) -> np.ndarray:
    """float64[new, old]: row i holds what each old position contributes to new position i."""
    return _weights_at((np.arange(new) + 0.5) * (old / new) - 0.5, old)


def _corner_weights(old: int, new: int) -> np.ndarray:
    """As `_constant_weights`, with the first and the last position of old and new at the same place."""
    return _weights_at(np.arange(new) * ((old - 1) / max(new - 1, 1)), old)


def _weights_at(source: np.ndarray, old: int) -> np.ndarray:
    source = np.clip(source, 0, old - 1)
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(old)))


def _dynamic_weights(old: int, new: jax.Array, canvas: int) -> jax.Array:
    """float32[B, canvas, old]: for each example, `_constant_weights(old, new)`, then repetitions of its last row.

    Positions are fractions of integers, so that no rounding grows with the size of the picture.
    """
    new = jnp.maximum(new.astype(jnp.int32), 1)[:, None]
    numerator = jnp.clip((2 * jnp.arange(canvas) + 1) * old - new, 0, 2 * new * (old - 1))
    lower = numerator // (2 * new)
    share = (numerator - lower * 2 * new) / (2 * new)
    distance = jnp.arange(old) - lower[..., None]
    return jnp.where(distance == 0, 1 - share[..., None], 0) + jnp.where(distance == 1, share[..., None], 0)


def _nearest_along(x: jax.Array, axis: int, new: int) -> jax.Array:
    old = x.shape[axis]
    if new % old == 0:
        return jnp.repeat(x, new // old, axis)
    return jnp.take(x, (2 * np.arange(new) + 1) * old // (2 * new), axis)
