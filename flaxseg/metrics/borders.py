"""Borders between classes, for all classes of a label map at once."""

import jax
import jax.numpy as jnp

from flaxseg.metrics.counting import is_class
from flaxseg.shapes import check_label

IGNORED = -1
"""Code of pixels whose class is unknown, which form no border."""

OUTSIDE = -2
"""Code of array elements outside the image."""


def class_codes(
    prediction: jax.Array, label: jax.Array, num_classes: int, size: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Returns the classes of label and prediction, each int32[B, H, W], with IGNORED and OUTSIDE at the same pixels.

    Args:
      prediction: integer[B, H, W], class indices.
      label: integer[B, H, W]; pixels where the label or the prediction is not a class are IGNORED in both.
      num_classes: K.
      size: int32[B, 2], height and width of each image, which is in the upper left of the array; None for full size.
    """
    check_label(label, tuple(prediction.shape), of="the predictions")
    valid = is_class(label, num_classes) & is_class(prediction, num_classes)
    invalid_code = jnp.where(image_mask(label.shape, size), IGNORED, OUTSIDE)
    codes = [jnp.where(valid, classes.astype(jnp.int32), invalid_code) for classes in (label, prediction)]
    return codes[0], codes[1]


def image_sizes(shape: tuple[int, ...], size: jax.Array | None) -> jax.Array:
    """Returns int32[B, 2]: `size`, or the height and width of labels of shape [B, H, W] for each image."""
    return jnp.broadcast_to(jnp.asarray(shape[1:3], jnp.int32), (shape[0], 2)) if size is None else size


def edge_distance(shape: tuple[int, ...], size: jax.Array | None) -> jax.Array:
    """Returns int32[B, H, W]: steps along a row or column to the nearest pixel outside the image; 0 or less outside."""
    height, width = jnp.moveaxis(image_sizes(shape, size), -1, 0)[..., None, None]
    row, column = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (1, 2))
    return jnp.minimum(jnp.minimum(row + 1, height - row), jnp.minimum(column + 1, width - column))


def image_mask(shape: tuple[int, ...], size: jax.Array | None) -> jax.Array:
    """Returns bool[B, H, W]: True at array elements that belong to the image."""
    return edge_distance(shape, size) > 0


def border_pixels(codes: jax.Array, *, image_edge: bool) -> jax.Array:
    """Returns bool[B, H, W]: True at pixels of a class that have one of their 4 neighbors outside the class.

    Args:
      codes: int32[B, H, W], classes, IGNORED or OUTSIDE. Ignored neighbors form no border.
      image_edge: treat everything beyond the image's edge as outside of every class.
    """
    padded = jnp.pad(codes, ((0, 0), (1, 1), (1, 1)), constant_values=OUTSIDE)
    height, width = codes.shape[1:]
    found = jnp.zeros(codes.shape, bool)
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbor = padded[:, down : down + height, right : right + width]
        found |= (neighbor != codes) & ((neighbor >= 0) | (image_edge & (neighbor == OUTSIDE)))
    return found & (codes >= 0)


def border_band(codes: jax.Array, radius: jax.Array, max_radius: int) -> jax.Array:
    """Returns bool[B, H, W]: True at pixels with another class in the square of `2 radius + 1` pixels around them.

    Args:
      codes: int32[B, H, W], classes; negative codes are not another class.
      radius: int32[B], from 0 to `max_radius`.
      max_radius: the largest possible radius.
    """
    # A square holds a single class if its lowest and its highest class are equal to the pixel's own.
    highest, lowest = (_square_maximum(jnp.where(codes >= 0, c, -256), radius, max_radius) for c in (codes, -codes))
    return ((highest != codes) | (lowest != -codes)) & (codes >= 0)


def class_bits(codes: jax.Array, num_classes: int) -> jax.Array:
    """Returns the class of each pixel as a set of one element, or of none if its code is negative.

    Args:
      codes: int32[B, H, W].
      num_classes: K.

    Returns:
      uint[N, B, H, W], in words of as few bits as hold K classes, or of 32 bits.
    """
    bits = next((bits for bits in (8, 16, 32) if num_classes <= bits), 32)
    dtype = jnp.dtype(f"uint{bits}")
    first = bits * jnp.arange(-(-num_classes // bits)).reshape(-1, 1, 1, 1)
    shift = codes - first
    is_here = (codes >= 0) & (shift >= 0) & (shift < bits)
    return jnp.where(is_here, jnp.left_shift(dtype.type(1), jnp.where(is_here, shift, 0).astype(dtype)), dtype.type(0))


def disk_union(bits: jax.Array, radius: jax.Array, max_radius: int) -> jax.Array:
    """Returns the union of the sets within a disk around each pixel.

    Args:
      bits: uint[N, B, H, W], sets as words of bits.
      radius: int32[B], from 0 to `max_radius`.
      max_radius: the largest possible radius.
    """
    _, _, height, width = bits.shape
    reach = ((0, 0), (0, 0), (max_radius, max_radius), (max_radius, max_radius))
    padded = jnp.pad(bits, reach)
    # In a disk, the rows that are at most `half` columns wide to either side are those above `tallest[half + 1]`.
    halves = jnp.arange(max_radius + 2)[:, None]
    tallest = integer_root(radius**2 - halves**2)
    first, last = tallest[1:] + 1, tallest[:-1]

    def widen(half: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        rows, union = carry
        left, right = (jax.lax.dynamic_slice_in_dim(padded, max_radius + at, width, 3) for at in (-half, half))
        rows = rows | left | right

        def add(down: jax.Array, union: jax.Array) -> jax.Array:
            above, below = (jax.lax.dynamic_slice_in_dim(rows, max_radius + at, height, 2) for at in (-down, down))
            is_in = (first[half] <= down) & (down <= last[half])
            return union | jnp.where(is_in[:, None, None], above | below, 0)

        return rows, jax.lax.fori_loop(first[half].min(), last[half].max() + 1, add, union)

    rows = jnp.zeros_like(padded[..., :width])
    return jax.lax.fori_loop(0, radius.max() + 1, widen, (rows, jnp.zeros_like(bits)))[1]


def integer_root(values: jax.Array) -> jax.Array:
    """Returns the largest integer whose square is at most each of the values, int32[...]; -1 for negative values."""
    root = jnp.sqrt(jnp.maximum(values, 0).astype(jnp.float32)).astype(jnp.int32)
    # The root of a float may be rounded up, or down.
    root += (root + 1) ** 2 <= values
    return root - (root**2 > values)


def _square_maximum(values: jax.Array, radius: jax.Array, max_radius: int) -> jax.Array:
    """Returns the maximum over the square around each pixel of int32[B, H, W], of values of at least -256."""
    values = values.astype(jnp.int16)
    for bit in range(max_radius.bit_length()):
        # Radii add up: the maximum within 4 of the maximum within 1 is the maximum within 5.
        wider = _window_maximum(_window_maximum(values, 2**bit, axis=1), 2**bit, axis=2)
        values = jnp.where((radius >> bit & 1)[:, None, None] == 1, wider, values)
    return values.astype(jnp.int32)


def _window_maximum(values: jax.Array, radius: int, axis: int) -> jax.Array:
    """Returns the maximum of the `2 radius + 1` values around each along an axis, doubling the window in each step."""
    window, covered = 2 * radius + 1, 1
    padding = [(radius, radius) if i == axis else (0, 0) for i in range(values.ndim)]
    values = jnp.pad(values, padding, constant_values=-256)

    def pair_maximum(values: jax.Array, apart: int) -> jax.Array:
        kept = values.shape[axis] - apart
        first, last = (jax.lax.slice_in_dim(values, at, at + kept, axis=axis) for at in (0, apart))
        return jnp.maximum(first, last)

    while 2 * covered <= window:
        values, covered = pair_maximum(values, covered), 2 * covered
    return pair_maximum(values, window - covered)
