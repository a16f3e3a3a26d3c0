"""Bilinear and nearest-neighbor resizing without antialiasing."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_bilinear(x: jax.Array, size: tuple[int, int], *, align_corners: bool = False) -> jax.Array:
    """Resizes images bilinearly; equals `jax.image.resize(..., antialias=False)`.

    Implemented as two products with constant matrices, which run on matrix units and export with a symbolic batch size.

    Args:
      x: float[B, h, w, C].
      size: height and width of the output.
      align_corners: align the centers of the corner pixels instead of their outer edges, as PyTorch's `align_corners`
        does; for networks that were trained with it.

    Returns:
      float[B, *size, C] of x's dtype.
    """
    (height, width), (new_height, new_width) = x.shape[1:3], size
    if (height, width) == (new_height, new_width):
        return x
    weights = _corner_weights if align_corners else _constant_weights
    rows = jnp.asarray(weights(height, new_height), x.dtype)
    columns = jnp.asarray(weights(width, new_width), x.dtype)
    # The order with the smaller intermediate array.
    if new_height * width <= height * new_width:
        x = _einsum("bhwc,Hh->bHwc", x, rows)
        return _einsum("bhwc,Ww->bhWc", x, columns)
    x = _einsum("bhwc,Ww->bhWc", x, columns)
    return _einsum("bhwc,Hh->bHwc", x, rows)


def resize_bilinear_ragged(x: jax.Array, sizes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Resizes each image bilinearly to its own size, in the upper left of a common canvas.

    Args:
      x: float[B, h, w, C].
      sizes: int[B, 2], the new height and width of each image, at least 1 and at most the canvas's; may be traced.
      canvas: height and width of the output.

    Returns:
      float[B, *canvas, C]; the upper left of image i, of size `sizes[i]`, is `resize_bilinear(x[i], sizes[i])`. All
      other values are finite and otherwise unspecified.
    """
    rows = _dynamic_weights(x.shape[1], sizes[:, 0], canvas[0]).astype(x.dtype)
    columns = _dynamic_weights(x.shape[2], sizes[:, 1], canvas[1]).astype(x.dtype)
    if canvas[0] * x.shape[2] <= x.shape[1] * canvas[1]:
        return _einsum("bhwc,bWw->bhWc", _einsum("bhwc,bHh->bHwc", x, rows), columns)
    return _einsum("bhwc,bHh->bHwc", _einsum("bhwc,bWw->bhWc", x, columns), rows)


def resize_nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes images by nearest-neighbor interpolation; equals `jax.image.resize(..., "nearest")`.

    Args:
      x: [B, h, w, C] of any dtype.
      size: height and width of the output.

    Returns:
      [B, *size, C] of x's dtype.
    """
    return _nearest_along(_nearest_along(x, 1, size[0]), 2, size[1])


def _einsum(formula: str, x: jax.Array, weights: jax.Array) -> jax.Array:
    # The default precision of accelerators rounds float32 to fewer bits, which is visible in images and logits.
    return jnp.einsum(formula, x, weights, precision=lax.Precision.HIGHEST)


def _constant_weights(old: int, new: int) -> np.ndarray:
    """Returns float64[new, old]: row i holds the weights of the old positions in new position i."""
    return _weights_at((np.arange(new) + 0.5) * (old / new) - 0.5, old)


def _corner_weights(old: int, new: int) -> np.ndarray:
    """Returns the weights like `_constant_weights`, with the first and last positions of old and new aligned."""
    return _weights_at(np.arange(new) * ((old - 1) / max(new - 1, 1)), old)


def _weights_at(source: np.ndarray, old: int) -> np.ndarray:
    source = np.clip(source, 0, old - 1)
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(old)))


def _dynamic_weights(old: int, new: jax.Array, canvas: int) -> jax.Array:
    """Returns float32[B, canvas, old]: `_constant_weights(old, new)` of each image, then repeats of its last row.

    Positions are computed as fractions of integers, so that rounding errors do not grow with the size of the image.
    """
    new = jnp.maximum(new.astype(jnp.int32), 1)[:, None]
    numerator = jnp.clip((2 * jnp.arange(canvas) + 1) * old - new, 0, 2 * new * (old - 1))
    lower = numerator // (2 * new)
    upper_weight = (numerator - lower * 2 * new) / (2 * new)
    distance = jnp.arange(old) - lower[..., None]
    lower_part = jnp.where(distance == 0, 1 - upper_weight[..., None], 0)
    return lower_part + jnp.where(distance == 1, upper_weight[..., None], 0)


def _nearest_along(x: jax.Array, axis: int, new: int) -> jax.Array:
    old = x.shape[axis]
    if new % old == 0:
        return jnp.repeat(x, new // old, axis)
    return jnp.take(x, (2 * np.arange(new) + 1) * old // (2 * new), axis)
