"""Where one class borders on another, of all classes of a map at once."""

import jax
import jax.numpy as jnp

from flaxseg.metrics.counting import is_class

IGNORED = -1
"""Code of a pixel that is not known to be of one class or another, and so makes no border."""

OUTSIDE = -2
"""Code of what lies beyond the picture's edge."""


def class_codes(
    prediction: jax.Array, label: jax.Array, num_classes: int, size: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the classes of label and prediction as int32[B, H, W] with IGNORED and OUTSIDE, at the same pixels each.

    Args:
      prediction: integer[B, H, W] of class indices.
      label: integer[B, H, W]; a pixel where it or the prediction is no class is IGNORED in both.
      num_classes: K.
      size: int32[B, 2], height and width of each picture, at the upper left of the array; None: all of it.
    """
    counted = is_class(label, num_classes) & is_class(prediction, num_classes)
    elsewhere = jnp.where(inside(label.shape, size), IGNORED, OUTSIDE)
    codes = [jnp.where(counted, classes.astype(jnp.int32), elsewhere) for classes in (label, prediction)]
    return codes[0], codes[1]


def picture_sizes(shape: tuple[int, ...], size: jax.Array | None) -> jax.Array:
    """Returns int32[B, 2], each picture's height and width, for labels of shape [B, H, W]."""
    return jnp.broadcast_to(jnp.asarray(shape[1:3], jnp.int32), (shape[0], 2)) if size is None else size


def edge_distance(shape: tuple[int, ...], size: jax.Array | None) -> jax.Array:
    """Returns int32[B, H, W]: steps along a row or column that lead out of the picture, 0 or less where outside."""
    height, width = jnp.moveaxis(picture_sizes(shape, size), -1, 0)[..., None, None]
    row, column = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (1, 2))
    return jnp.minimum(jnp.minimum(row + 1, height - row), jnp.minimum(column + 1, width - column))


def inside(shape: tuple[int, ...], size: jax.Array | None) -> jax.Array:
    """Returns bool[B, H, W]: which pixels of the array belong to the picture."""
    return edge_distance(shape, size) > 0


def borders(codes: jax.Array, *, picture_edge: bool) -> jax.Array:
    """Returns bool[B, H, W]: which pixels of a class have one of their 4 neighbors outside that class.

    Args:
      codes: int32[B, H, W], classes, IGNORED or OUTSIDE. An ignored neighbor makes no border.
      picture_edge: whether the picture's edge is outside of every class.
    """
    padded = jnp.pad(codes, ((0, 0), (1, 1), (1, 1)), constant_values=OUTSIDE)
    height, width = codes.shape[1:]
    found = jnp.zeros(codes.shape, bool)
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbor = padded[:, down : down + height, right : right + width]
        found |= (neighbor != codes) & ((neighbor >= 0) | (picture_edge & (neighbor == OUTSIDE)))
    return found & (codes >= 0)


def borders_within(codes: jax.Array, reach: jax.Array, limit: int) -> jax.Array:
    """Returns bool[B, H, W]: which pixels have another class within a square of `2 reach + 1` pixels around them.

    Args:
      codes: int32[B, H, W], classes, or negative where neither known nor of the picture, which is no other class.
      reach: int32[B], 0..limit.
      limit: the largest reach that can be.
    """
    # All of a square is of one class where the lowest and the highest class in it are.
    highest, lowest = (_highest_within(jnp.where(codes >= 0, c, -256), reach, limit) for c in (codes, -codes))
    return ((highest != codes) | (lowest != -codes)) & (codes >= 0)


def _highest_within(values: jax.Array, reach: jax.Array, limit: int) -> jax.Array:
    """The highest of the square around each pixel of int32[B, H, W], of at least -256."""
    values = values.astype(jnp.int16)
    for bit in range(limit.bit_length()):
        # Squares add up: the highest within 1, of which the highest within 4, is that within 5.
        wider = _highest_along(_highest_along(values, 2**bit, axis=1), 2**bit, axis=2)
        values = jnp.where((reach >> bit & 1)[:, None, None] == 1, wider, values)
    return values.astype(jnp.int32)


def _highest_along(values: jax.Array, reach: int, axis: int) -> jax.Array:
    """The highest of the `2 reach + 1` values around each along an axis, in steps that double what is covered."""
    window, covered = 2 * reach + 1, 1
    around = [(reach, reach) if i == axis else (0, 0) for i in range(values.ndim)]
    values = jnp.pad(values, around, constant_values=-256)

    def both(values: jax.Array, apart: int) -> jax.Array:
        kept = values.shape[axis] - apart
        first, last = (jax.lax.slice_in_dim(values, at, at + kept, axis=axis) for at in (0, apart))
        return jnp.maximum(first, last)

    while 2 * covered <= window:
        values, covered = both(values, covered), 2 * covered
    return both(values, window - covered)
