"""Reading arrays at positions between their pixels: bilinear for pictures, nearest for labels."""

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
    """Values of pictures at positions given in their pixels: (0, 0) is the center of the upper-left one.

    A picture that is read at fewer positions than it has pixels is averaged first: each example is read from the
    level of a pyramid of halved pictures at which a step spans less than two pixels (Williams, "Pyramidal
    parametrics", 1983), so that fine texture does not turn into noise.

    Args:
      image: uint8 or float[B, H, W, C].
      rows: float32, and columns: float32, which together broadcast to [B, h, w]. Positions that depend on one axis
        alone are cheapest as [B, h, 1] and [B, 1, w].
      columns: see rows.
      shrinkage: float32[B], how many pixels of the picture one step spans; None: one.
      max_shrinkage: the most that `shrinkage` can be; decides how many levels are made.

    Returns:
      float32[B, h, w, C], 0 beyond the edges of the outermost pixels.
    """
    levels = _pyramid(image, 1.0 if shrinkage is None else max_shrinkage)
    along_rows, along_columns = _for_both(_neighbors, rows, columns, *_axes(levels, shrinkage))
    row, next_row, row_share, row_inside = along_rows
    column, _, column_share, column_inside = along_columns
    # One more word than there are pixels: a joined array is laid down in memory once, not made anew for each reading,
    # and the last pixel has one after it.
    words = [_words(x) for x in levels]
    flat = jnp.concatenate([*words, jnp.zeros_like(words[0][:, :1])], axis=1)
    # Pairs of neighbors in a row; after the last of a row comes one whose share is 0. In a loop, so that what is read
    # is laid down in memory: fused into the reading, the weighting would not use the processor's vectors.
    pairs = jax.lax.map(lambda begin: _take(flat, begin + column, length=2), jnp.stack([row, next_row]))
    (upper_left, upper_right), (lower_left, lower_right) = _corners(pairs, image)
    # Multiplied, because a choice between two values would not use the vectors either.
    is_inside = row_inside.astype(jnp.float32) * column_inside.astype(jnp.float32)
    row_share, column_share, is_inside = row_share[..., None], column_share[..., None], is_inside[..., None]
    upper = upper_left + (upper_right - upper_left) * column_share
    lower = lower_left + (lower_right - lower_left) * column_share
    return (upper + (lower - upper) * row_share) * is_inside


def sample_nearest(label: jax.Array, rows: jax.Array, columns: jax.Array, *, outside: int) -> jax.Array:
    """The value of the pixel that each position lies in; positions as in `sample_bilinear`.

    Args:
      label: integer[B, H, W].
      rows: float32, and columns: float32, which together broadcast to [B, h, w].
      columns: see rows.
      outside: value beyond the edges of the outermost pixels.

    Returns:
      [B, h, w] of label's dtype.
    """

    def nearest(at: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        return jnp.clip(jnp.floor(at + 0.5), 0, size - 1).astype(jnp.int32), _is_inside(at, size)

    (row, row_inside), (column, column_inside) = _for_both(nearest, rows, columns, jnp.asarray(label.shape[1:3]))
    taken = _take(label.reshape(label.shape[0], -1, 1), row * label.shape[2] + column)[0][..., 0]
    return jnp.where(row_inside & column_inside, taken, jnp.asarray(outside, label.dtype))


def _pyramid(image: jax.Array, max_shrinkage: float) -> list[jax.Array]:
    """The picture, and its halves as long as a step can span two pixels of them or more."""
    levels = [image]
    for _ in range(math.floor(math.log2(max(max_shrinkage, 1.0)))):
        levels.append(_halved(levels[-1]))
    return levels


def _axes(levels: list[jax.Array], shrinkage: jax.Array | None) -> tuple[jax.Array, ...]:
    """For rows and columns, [2, B, 1] each: the whole size, and of each example's level zoom, size, stride and begin.

    All levels lie in one array, in which an index is the sum of two offsets: of the level and the row, and of the
    column.
    """
    batch = levels[0].shape[0]
    level = jnp.zeros(batch, jnp.int32)
    if shrinkage is not None:
        level = sum(((shrinkage >= 2**k).astype(jnp.int32) for k in range(1, len(levels))), start=level)
    sizes = jnp.asarray([x.shape[1:3] for x in levels])
    begins = jnp.cumsum(jnp.asarray([0] + [x.shape[1] * x.shape[2] for x in levels]))[level]
    of_axis = (
        jnp.broadcast_to(sizes[0], (batch, 2)).T,
        jnp.stack([0.5**level] * 2),
        sizes[level].T,
        jnp.stack([sizes[level, 1], jnp.ones_like(level)]),
        jnp.stack([begins, jnp.zeros_like(begins)]),
    )
    return tuple(values[..., None] for values in of_axis)


def _neighbors(
    at: jax.Array, whole: jax.Array, zoom: jax.Array, size: jax.Array, stride: jax.Array, begin: jax.Array
) -> tuple[jax.Array, ...]:
    """Offsets of the pixels before and after each position, the share of the one after, and what lies inside."""
    within = jnp.clip((at + 0.5) * zoom - 0.5, 0, size - 1)
    before = jnp.floor(within)
    index = before.astype(jnp.int32)
    after = jnp.minimum(index + 1, size - 1)
    return begin + index * stride, begin + after * stride, within - before, _is_inside(at, whole)


def _is_inside(at: jax.Array, size: jax.Array) -> jax.Array:
    return (at >= -0.5) & (at < size - 0.5)


def _for_both(
    function: Callable[..., tuple[jax.Array, ...]], rows: jax.Array, columns: jax.Array, *of_axis: jax.Array
) -> list[list[jax.Array]]:
    """What `function(positions [B, N], *of_axis[i])` gives for rows (i = 0) and columns (i = 1), in their shapes.

    It runs in a loop, first rows, then columns, because the result of a loop is laid down in memory: fused into each
    of the readings that follow, it would be computed several times over, and slower.
    """
    shapes = rows.shape, columns.shape
    flat = [at.reshape(at.shape[0], -1) for at in (rows, columns)]
    longest = max(at.shape[1] for at in flat)
    positions = jnp.stack([jnp.pad(at, ((0, 0), (0, longest - at.shape[1]))) for at in flat])
    results = jax.lax.map(lambda given: function(*given), (positions, *of_axis))
    return [
        [result[axis, :, : math.prod(shape[1:])].reshape(shape) for result in results]
        for axis, shape in enumerate(shapes)
    ]


def _halved(image: jax.Array) -> jax.Array:
    """Means of blocks of 2x2; an odd last row or column counts twice."""
    padding = [(0, 0), (0, image.shape[1] % 2), (0, image.shape[2] % 2), (0, 0)]
    image = jnp.pad(image, padding, mode="edge")
    blocks = image.reshape(image.shape[0], image.shape[1] // 2, 2, image.shape[2] // 2, 2, image.shape[3])
    if image.dtype == jnp.uint8:
        return ((blocks.astype(jnp.uint16).sum((2, 4)) + 2) >> 2).astype(jnp.uint8)
    return blocks.mean((2, 4))


def _words(image: jax.Array) -> jax.Array:
    """A picture as [B, H * W, words]: four bytes in a word, as one reading of memory then brings four channels."""
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
    """For each word of [B, N, words]: `length` values from each index int32[B, h, w] on, [B, h, w, length].

    Every one of them has to lie in 0..N-1.
    """
    numbers = jax.lax.GatherDimensionNumbers(offset_dims=(2,), collapsed_slice_dims=(), start_index_map=(0,))

    def take(values: jax.Array, at: jax.Array) -> jax.Array:
        return jax.lax.gather(values, at[..., None], numbers, (length,), mode="promise_in_bounds")

    return [jax.vmap(take)(flat[..., i], index) for i in range(flat.shape[-1])]


def _corners(pairs: list[jax.Array], image: jax.Array) -> list[list[jax.Array]]:
    """float32[B, h, w, C] of upper and lower, left and right pixels, from words of `_words`, [2, B, h, w, 2] each."""

    def unpacked(words: list[jax.Array]) -> jax.Array:
        if image.dtype != jnp.uint8:
            return jnp.stack(words, -1)
        shifts = 8 * jnp.arange(min(4, image.shape[-1]), dtype=jnp.uint32)
        values = [((word[..., None] >> shifts) & 255).astype(jnp.float32) for word in words]
        return jnp.concatenate(values, -1)[..., : image.shape[-1]]

    return [[unpacked([pair[line, ..., side] for pair in pairs]) for side in (0, 1)] for line in (0, 1)]
