"""Bilinear and nearest-neighbor resizing, without antialiasing unless it is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_bilinear(x: jax.Array, size: tuple[int, int], *, align_corners: bool = False) -> jax.Array:
    """Resizes images bilinearly; equals `jax.image.resize(..., antialias=False)`.

    Implemented as two products with constant matrices, which run on matrix units and export with a symbolic batch size.
    Symbolic heights and widths are supported as well; the matrices are then computed by the program.

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
    rows = _resize_weights(height, new_height, align_corners).astype(x.dtype)
    columns = _resize_weights(width, new_width, align_corners).astype(x.dtype)
    # The order with the smaller intermediate array, where the sizes are known.
    known = all(isinstance(length, int) for length in (height, width, new_height, new_width))
    if not known or new_height * width <= height * new_width:
        x = _einsum("bhwc,Hh->bHwc", x, rows)
        return _einsum("bhwc,Ww->bhWc", x, columns)
    x = _einsum("bhwc,Ww->bhWc", x, columns)
    return _einsum("bhwc,Hh->bHwc", x, rows)


def resize_bilinear_ragged(
    x: jax.Array,
    sizes: jax.Array,
    canvas: tuple[int, int],
    *,
    old_sizes: jax.Array | None = None,
    first_row: jax.Array | int = 0,
    antialias: bool = False,
    rows_last: bool | None = None,
) -> jax.Array:
    """Resizes each image bilinearly to its own size, in the upper left of a common canvas.

    Args:
      x: float[B, h, w, C].
      sizes: int[B, 2], the new height and width of each image, at least 1 and at most the canvas's; may be traced.
      canvas: height and width of the output.
      old_sizes: int[B, 2], the height and width that each image occupies in the upper left of `x`; None if it fills it.
      first_row: the row that the output begins at, to compute a large result in parts; may be traced.
      antialias: average over the pixels that fall together where an image shrinks, as `jax.image.resize` does.
      rows_last: whether columns are resized before rows, which only changes the rounding; None for the faster order.

    Returns:
      float[B, *canvas, C]; with `first_row` = 0, the upper left of image i, of size `sizes[i]`, is
      `resize_bilinear(x[i], sizes[i])`. All other values are finite and otherwise unspecified.
    """
    if old_sizes is None:
        old_sizes = jnp.broadcast_to(jnp.asarray(x.shape[1:3]), sizes.shape)
    weights = _antialiased_weights if antialias else _dynamic_weights
    rows = weights(x.shape[1], old_sizes[:, 0], sizes[:, 0], canvas[0], first_row).astype(x.dtype)
    columns = weights(x.shape[2], old_sizes[:, 1], sizes[:, 1], canvas[1], 0).astype(x.dtype)
    if rows_last is None:
        rows_last = are_rows_last(x.shape, canvas)
    if not rows_last:
        return _einsum("bhwc,bWw->bhWc", _einsum("bhwc,bHh->bHwc", x, rows), columns)
    return _einsum("bhwc,bHh->bHwc", _einsum("bhwc,bWw->bhWc", x, columns), rows)


def are_rows_last(shape: tuple[int, ...], canvas: tuple[int, int]) -> bool:
    """Returns whether images [B, h, w, C] are resized faster to a canvas with columns first; see `rows_last`."""
    return canvas[0] * shape[2] > shape[1] * canvas[1]


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


def _resize_weights(old: int, new: int, align_corners: bool) -> jax.Array:
    """Returns float[new, old]: row i holds the weights of the old positions in new position i."""
    if isinstance(old, int) and isinstance(new, int):
        return jnp.asarray((_corner_weights if align_corners else _constant_weights)(old, new))
    position, old_length, new_length = lax.iota(jnp.int32, new), jnp.asarray(old), jnp.asarray(new)
    if align_corners:
        numerator, denominator = position * (old_length - 1), jnp.maximum(new_length - 1, 1)
    else:
        denominator = 2 * new_length
        numerator = jnp.clip((2 * position + 1) * old_length - new_length, 0, denominator * (old_length - 1))
    return _weights_at_fractions(numerator, denominator, old)


def _constant_weights(old: int, new: int) -> np.ndarray:
    """Returns float64[new, old]: row i holds the weights of the old positions in new position i."""
    return _weights_at((np.arange(new) + 0.5) * (old / new) - 0.5, old)


def _corner_weights(old: int, new: int) -> np.ndarray:
    """Returns the weights like `_constant_weights`, with the first and last positions of old and new aligned."""
    return _weights_at(np.arange(new) * ((old - 1) / max(new - 1, 1)), old)


def _weights_at(source: np.ndarray, old: int) -> np.ndarray:
    source = np.clip(source, 0, old - 1)
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(old)))


def _dynamic_weights(length: int, old: jax.Array, new: jax.Array, canvas: int, first: jax.Array | int) -> jax.Array:
    """Returns float32[B, canvas, length]: `_constant_weights(old, new)[first:]` of each image, then its last row again.

    Positions are computed as fractions of integers, so that rounding errors do not grow with the size of the image.
    """
    old, new = (jnp.maximum(size.astype(jnp.int32), 1)[:, None] for size in (old, new))
    numerator = jnp.clip((2 * (jnp.arange(canvas) + first) + 1) * old - new, 0, 2 * new * (old - 1))
    return _weights_at_fractions(numerator, 2 * new, length)


def _antialiased_weights(length: int, old: jax.Array, new: jax.Array, canvas: int, first: jax.Array | int) -> jax.Array:
    """Returns the weights like `_dynamic_weights`, of all old positions that a new one covers where images shrink."""
    old, new = (jnp.maximum(size.astype(jnp.int32), 1)[:, None, None] for size in (old, new))
    # In units of 1 / (2 * new), so that positions are integers.
    distance = 2 * new * jnp.arange(length) - ((2 * (jnp.arange(canvas) + first)[:, None] + 1) * old - new)
    weights = jnp.maximum(0, 1 - jnp.abs(distance) / (2 * jnp.maximum(old, new)))
    weights = jnp.where(jnp.arange(length) < old, weights, 0)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), np.finfo(np.float32).eps)


def _weights_at_fractions(numerator: jax.Array, denominator: jax.Array, length: int) -> jax.Array:
    """Returns float32[..., n, length], the weights of the old positions at `numerator / denominator`, int32[..., n]."""
    lower = numerator // denominator
    upper_weight = ((numerator - lower * denominator) / denominator)[..., None]
    distance = lax.iota(jnp.int32, length) - lower[..., None]
    return jnp.where(distance == 0, 1 - upper_weight, 0) + jnp.where(distance == 1, upper_weight, 0)


def _nearest_along(x: jax.Array, axis: int, new: int) -> jax.Array:
    old = x.shape[axis]
    if new % old == 0:
        return jnp.repeat(x, new // old, axis)
    known = isinstance(old, int) and isinstance(new, int)
    positions = np.arange(new) if known else lax.iota(jnp.int32, new)
    # By keyword, because the conversion to ONNX takes the axis in no other way.
    return jnp.take(x, (2 * positions + 1) * old // (2 * new), axis=axis)
