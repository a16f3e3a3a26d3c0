"""Sampling of images and labels at arbitrary positions, with bilinear or nearest-neighbor interpolation."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def sample_bilinear(
    image: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    *,
    shrinkage: jax.Array | None = None,
    max_shrinkage: float = 1.0,
) -> jax.Array:
    """Returns the values of images at positions in pixels, where (0, 0) is the center of the upper-left pixel.

    To avoid aliasing when images shrink, each one is sampled from the level of an image pyramid, made by repeated
    halving, at which neighboring samples are less than two pixels apart (Williams, "Pyramidal parametrics", 1983).

    Args:
      image: uint8 or float[B, H, W, C].
      rows: float32, row positions, which broadcast with `columns` to [B, h, w]. If rows and columns of the output are
        independent, [B, h, 1] and [B, 1, w] are the fastest.
      columns: float32, column positions.
      shrinkage: float32[B], the distance of neighboring samples in pixels; None for 1.
      max_shrinkage: the largest possible `shrinkage`, which determines the number of levels.

    Returns:
      float32[B, h, w, C]; 0 outside the image, which extends to the outer edges of its pixels.
    """
    levels = _pyramid(image, 1.0 if shrinkage is None else max_shrinkage)
    along_rows, along_columns = _for_both_axes(_neighbors, rows, columns, *_axes(levels, shrinkage))
    row, next_row, row_weight, row_inside = along_rows
    column, _, column_weight, column_inside = along_columns
    # Concatenation materializes the array once, instead of recomputing it for every gather. The additional word at the
    # end is the right neighbor of the last pixel.
    words = [_words(x) for x in levels]
    flat = jnp.concatenate([*words, jnp.zeros_like(words[0][:, :1])], axis=1)
    # Gathers pairs of neighbors in a row; the right neighbor of the last pixel in a row has a weight of 0. The loop
    # materializes the gathered values, because a weighting fused into the gather would not be vectorized.
    pairs = jax.lax.map(lambda begin: _take(flat, begin + column, length=2), jnp.stack([row, next_row]))
    (upper_left, upper_right), (lower_left, lower_right) = _corners(pairs, image)
    # A product, because a selection would not be vectorized either.
    is_inside = row_inside.astype(jnp.float32) * column_inside.astype(jnp.float32)
    row_weight, column_weight, is_inside = row_weight[..., None], column_weight[..., None], is_inside[..., None]
    upper = upper_left + (upper_right - upper_left) * column_weight
    lower = lower_left + (lower_right - lower_left) * column_weight
    return (upper + (lower - upper) * row_weight) * is_inside


def sample_nearest(label: jax.Array, rows: jax.Array, columns: jax.Array, *, outside: int) -> jax.Array:
    """Returns the value of the pixel nearest to each position, where (0, 0) is the center of the upper-left pixel.

    Args:
      label: integer[B, H, W].
      rows: float32, row positions, which broadcast with `columns` to [B, h, w].
      columns: float32, column positions.
      outside: the value outside the image, which extends to the outer edges of its pixels.

    Returns:
      [B, h, w] of label's dtype.
    """

    def nearest(at: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        return jnp.clip(jnp.floor(at + 0.5), 0, size - 1).astype(jnp.int32), _is_inside(at, size)

    (row, row_inside), (column, column_inside) = _for_both_axes(nearest, rows, columns, jnp.asarray(label.shape[1:3]))
    taken = _take(label.reshape(label.shape[0], -1, 1), row * label.shape[2] + column)[0][..., 0]
    return jnp.where(row_inside & column_inside, taken, jnp.asarray(outside, label.dtype))


def _pyramid(image: jax.Array, max_shrinkage: float) -> list[jax.Array]:
    """Returns the image, and a halving of it for each distance of 2, 4, 8, ... pixels that samples can have."""
    levels = [image]
    for _ in range(math.floor(math.log2(max(max_shrinkage, 1.0)))):
        levels.append(_halved(levels[-1]))
    return levels


def _axes(levels: list[jax.Array], shrinkage: jax.Array | None) -> tuple[jax.Array, ...]:
    """Returns for rows and columns, [2, B, 1] each: image size, and each image's level's zoom, size, stride and begin.

    All levels are in one flat array, in which the index of a pixel is the sum of an offset for its level and row and
    an offset for its column.
    """
    batch = levels[0].shape[0]
    level = jnp.zeros(batch, jnp.int32)
    if shrinkage is not None:
        level = sum(((shrinkage >= 2**k).astype(jnp.int32) for k in range(1, len(levels))), start=level)
    sizes = jnp.asarray([x.shape[1:3] for x in levels])
    begins = jnp.cumsum(jnp.asarray([0] + [x.shape[1] * x.shape[2] for x in levels]))[level]
    per_axis = (
        jnp.broadcast_to(sizes[0], (batch, 2)).T,
        jnp.stack([0.5**level] * 2),
        sizes[level].T,
        jnp.stack([sizes[level, 1], jnp.ones_like(level)]),
        jnp.stack([begins, jnp.zeros_like(begins)]),
    )
    return tuple(values[..., None] for values in per_axis)


def _neighbors(
    at: jax.Array, whole: jax.Array, zoom: jax.Array, size: jax.Array, stride: jax.Array, begin: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns the offsets of the pixels before and after each position, the latter's weight, and what is inside."""
    clipped = jnp.clip((at + 0.5) * zoom - 0.5, 0, size - 1)
    before = jnp.floor(clipped)
    index = before.astype(jnp.int32)
    after = jnp.minimum(index + 1, size - 1)
    return begin + index * stride, begin + after * stride, clipped - before, _is_inside(at, whole)


def _is_inside(at: jax.Array, size: jax.Array) -> jax.Array:
    return (at >= -0.5) & (at < size - 0.5)


def _for_both_axes(
    function: Callable[..., tuple[jax.Array, ...]], rows: jax.Array, columns: jax.Array, *per_axis: jax.Array
) -> list[list[jax.Array]]:
    """Returns `function(positions [B, N], *per_axis[i])` for rows (i = 0) and columns (i = 1), in their shapes.

    A loop over the two axes, because loops materialize their results: fused into each of the gathers that follow, the
    function would be recomputed several times, and more slowly.
    """
    shapes = rows.shape, columns.shape
    flat = [at.reshape(at.shape[0], -1) for at in (rows, columns)]
    longest = max(at.shape[1] for at in flat)
    positions = jnp.stack([jnp.pad(at, ((0, 0), (0, longest - at.shape[1]))) for at in flat])
    results = jax.lax.map(lambda given: function(*given), (positions, *per_axis))
    return [
        [result[axis, :, : math.prod(shape[1:])].reshape(shape) for result in results]
        for axis, shape in enumerate(shapes)
    ]


def _halved(image: jax.Array) -> jax.Array:
    """Returns the means of 2x2 blocks; an odd last row or column is repeated."""
    padding = [(0, 0), (0, image.shape[1] % 2), (0, image.shape[2] % 2), (0, 0)]
    image = jnp.pad(image, padding, mode="edge")
    blocks = image.reshape(image.shape[0], image.shape[1] // 2, 2, image.shape[2] // 2, 2, image.shape[3])
    if image.dtype == jnp.uint8:
        return ((blocks.astype(jnp.uint16).sum((2, 4)) + 2) >> 2).astype(jnp.uint8)
    return blocks.mean((2, 4))


def _words(image: jax.Array) -> jax.Array:
    """Returns an image as [B, H * W, words], with four bytes in a word, so that one gather reads four channels."""
    batch, height, width, channels = image.shape
    if image.dtype != jnp.uint8:
        return image.astype(jnp.float32).reshape(batch, height * width, channels)
    wide = image.reshape(batch, height * width, channels).astype(jnp.uint32)
    words = [
        sum((wide[..., first + i] << (8 * i) for i in range(min(4, channels - first))), start=jnp.uint32(0))
        for first in range(0, channels, 4)
    ]
    return jnp.stack(words, -1)


def _take(flat: jax.Array, index: jax.Array, length: int = 1) -> list[jax.Array]:
    """Returns, for each word of [B, N, words], `length` values from each index int32[B, h, w] on, [B, h, w, length].

    All of them have to be in 0..N-1.
    """
    numbers = jax.lax.GatherDimensionNumbers(offset_dims=(2,), collapsed_slice_dims=(), start_index_map=(0,))

    def take(values: jax.Array, at: jax.Array) -> jax.Array:
        return jax.lax.gather(values, at[..., None], numbers, (length,), mode="promise_in_bounds")

    return [jax.vmap(take)(flat[..., i], index) for i in range(flat.shape[-1])]


def _corners(pairs: list[jax.Array], image: jax.Array) -> list[list[jax.Array]]:
    """Returns the upper and lower, left and right pixels, float32[B, h, w, C], from words [2, B, h, w, 2]."""

    def unpack(words: list[jax.Array]) -> jax.Array:
        if image.dtype != jnp.uint8:
            return jnp.stack(words, -1)
        shifts = 8 * jnp.arange(min(4, image.shape[-1]), dtype=jnp.uint32)
        values = [((word[..., None] >> shifts) & 255).astype(jnp.float32) for word in words]
        return jnp.concatenate(values, -1)[..., : image.shape[-1]]

    return [[unpack([pair[line, ..., side] for pair in pairs]) for side in (0, 1)] for line in (0, 1)]
