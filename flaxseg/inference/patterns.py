"""Boolean patterns over arrays, such as which elements depend on an input, and the array operations on them.

A pattern has as many axes as its array. An axis along which the pattern is uniform has length 1, whatever the array's
length, so that the patterns of large feature maps stay small.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

Pattern = np.ndarray
"""bool[...], each axis as long as the array's, or 1 where the pattern is uniform along it."""


def uniform(value: bool, ndim: int) -> Pattern:
    """Returns the pattern that is `value` everywhere."""
    return np.full((1,) * ndim, value)


def compress(pattern: Pattern) -> Pattern:
    """Returns the same pattern with each axis along which it is uniform reduced to length 1."""
    for axis, length in enumerate(pattern.shape):
        if length != 1:
            first = pattern[(slice(None),) * axis + (slice(0, 1),)] if length else np.zeros((1,) * pattern.ndim, bool)
            if not length or (pattern == first).all():
                pattern = first
    return pattern


def expand(pattern: Pattern, shape: Sequence[int], axes: Collection[int]) -> Pattern:
    """Returns the same pattern with `axes` at the length that an array of this shape has."""
    return np.broadcast_to(pattern, [shape[i] if i in axes else n for i, n in enumerate(pattern.shape)])


def any_along(pattern: Pattern, axes: int | Sequence[int], *, keepdims: bool = False) -> Pattern:
    """Returns where any element along the axes is marked."""
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return np.asarray(pattern.any(axes, keepdims=keepdims))


def union(*patterns: Pattern) -> Pattern:
    """Returns where any of the patterns is set; axes are broadcast."""
    result = patterns[0]
    for pattern in patterns[1:]:
        result = result | pattern
    return result


def reshape(pattern: Pattern, shape: Sequence[int], new_shape: Sequence[int]) -> Pattern:
    """Returns the pattern of an array of `shape` after a reshape."""
    if 0 in shape or pattern.size == 1:
        return uniform(bool(pattern.any()), len(new_shape))
    mixed = [group for old, new in _groups(shape, new_shape) if _is_mixed(pattern, old) for group in old]
    pattern = expand(pattern, shape, mixed)
    lengths: list[int] = []
    for old, new in _groups(shape, new_shape):
        kept = _is_mixed(pattern, old)
        lengths += [new_shape[i] if kept else 1 for i in new]
    return compress(pattern.reshape(lengths))


def broadcast(pattern: Pattern, ndim: int, axes: Sequence[int]) -> Pattern:
    """Returns the pattern of an array whose axes become `axes` of a broadcast array."""
    shape = [1] * ndim
    for axis, length in zip(axes, pattern.shape, strict=True):
        shape[axis] = length
    return pattern.reshape(shape)


def take_slice(
    pattern: Pattern, starts: Sequence[int], stops: Sequence[int], strides: Sequence[int] | None = None
) -> Pattern:
    """Returns the pattern of a strided slice."""
    steps = strides or (1,) * pattern.ndim
    slices = [
        slice(None) if length == 1 else slice(*given)
        for length, *given in zip(pattern.shape, starts, stops, steps, strict=True)
    ]
    return compress(pattern[tuple(slices)])


def concatenate(patterns: Sequence[Pattern], shapes: Sequence[Sequence[int]], axis: int) -> Pattern:
    """Returns the pattern of the concatenation of arrays of these shapes."""
    expanded = [expand(p, shape, [axis]) for p, shape in zip(patterns, shapes, strict=True)]
    others = np.broadcast_shapes(*((*p.shape[:axis], 1, *p.shape[axis + 1 :]) for p in expanded))
    full = [np.broadcast_to(p, (*others[:axis], p.shape[axis], *others[axis + 1 :])) for p in expanded]
    return compress(np.concatenate(full, axis))


def pad(
    pattern: Pattern,
    shape: Sequence[int],
    fill: bool,
    config: Sequence[tuple[int, int, int]],
    *,
    keep_uniform: bool = False,
) -> Pattern:
    """Returns the pattern after padding by (low, high, interior) elements along each axis.

    Args:
      pattern: the pattern of an array.
      shape: the array's shape.
      fill: the pattern of the padding.
      config: (low, high, interior) for each axis; negative numbers crop.
      keep_uniform: leave axes along which the pattern is uniform as they are.
    """
    for axis, (low, high, interior) in enumerate(config):
        length = shape[axis]
        skipped = keep_uniform and pattern.shape[axis] == 1
        if skipped or (low, high, interior) == (0, 0, 0) or (pattern == fill).all():
            continue
        pattern = np.moveaxis(expand(pattern, shape, [axis]), axis, 0)
        spaced = np.full((length + max(length - 1, 0) * interior, *pattern.shape[1:]), fill)
        spaced[:: interior + 1] = pattern
        cropped = spaced[max(-low, 0) : len(spaced) - max(-high, 0)]
        ends = [np.full((max(n, 0), *pattern.shape[1:]), fill) for n in (low, high)]
        pattern = np.moveaxis(np.concatenate([ends[0], cropped, ends[1]]), 0, axis)
    return compress(pattern)


def accumulate(pattern: Pattern, shape: Sequence[int], axis: int, reverse: bool) -> Pattern:
    """Returns where a cumulative operation along an axis depends on a marked element."""
    pattern = np.flip(pattern, axis) if reverse else pattern
    result = np.logical_or.accumulate(expand(pattern, shape, [axis]), axis)
    return compress(np.flip(result, axis) if reverse else result)


def contract(
    left: Pattern,
    right: Pattern,
    shapes: tuple[Sequence[int], Sequence[int]],
    dimensions: tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]],
) -> Pattern:
    """Returns where a generalized matrix product has a term whose two factors are both marked.

    Args:
      left: the pattern of the left factor.
      right: the pattern of the right factor.
      shapes: the shapes of the two arrays.
      dimensions: (contracted axes of both), (batch axes of both), as `lax.dot_general` takes them.
    """
    contracted, batch = dimensions
    sides = []
    for pattern, summed, batched in zip((left, right), contracted, batch, strict=True):
        free = [i for i in range(pattern.ndim) if i not in (*summed, *batched)]
        sides.append((pattern.transpose(*batched, *free, *summed), len(free)))
    (left, left_free), (right, right_free) = sides
    count, batches = len(contracted[0]), len(batch[0])
    sums = tuple(range(-count, 0)) if count else ()
    varies = [math.prod(p.shape[p.ndim - count :]) > 1 for p in (left, right)]
    if not all(varies):
        a, b = any_along(left, sums), any_along(right, sums)
        a = a.reshape(*a.shape, *(1,) * right_free)
        return compress(a & b.reshape(*b.shape[:batches], *(1,) * left_free, *b.shape[batches:]))
    lengths = tuple(shapes[0][i] for i in contracted[0])
    a, b = (np.broadcast_to(p, p.shape[: p.ndim - count] + lengths) for p in (left, right))
    total = math.prod(lengths)
    rows, columns = a.shape[batches : a.ndim - count], b.shape[batches : b.ndim - count]
    a = a.reshape(*a.shape[:batches], -1, total).astype(np.float32)
    b = b.reshape(*b.shape[:batches], -1, total).astype(np.float32)
    product = a @ np.swapaxes(b, -1, -2) > 0
    return compress(product.reshape(*product.shape[:batches], *rows, *columns))


def convolve(
    image: Pattern,
    size: Sequence[int],
    kernel: Pattern,
    *,
    taps: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Pattern:
    """Returns where a convolution has a term whose image element and kernel element are both marked.

    Axes along which the image is uniform stay so, as if its padding were marked too.

    Args:
      image: [N, C, ...], with C either 1 or the kernel's number of outputs.
      size: lengths of the image's spatial axes.
      kernel: [O, ...].
      taps: lengths of the kernel's spatial axes.
      strides: the stride along each spatial axis.
      pads: (low, high) along each spatial axis; negative numbers crop.
      dilation: the dilation of the kernel along each spatial axis.
    """
    if not image.any():
        return uniform(False, image.ndim)
    rank = len(size)
    varying = [axis for axis in range(rank) if image.shape[2 + axis] > 1]
    uniform_axes = tuple(1 + axis for axis in range(rank) if axis not in varying)
    kernel = expand(any_along(kernel, uniform_axes, keepdims=True), (0, *taps), [1 + axis for axis in varying])
    config = [(0, 0, 0)] * 2 + [(low, high, 0) for low, high in pads]
    padded = pad(image, (*image.shape[:2], *size), False, config, keep_uniform=True)
    lengths = [size[axis] + sum(pads[axis]) for axis in range(rank)]
    padded = expand(padded, (*image.shape[:2], *lengths), [2 + axis for axis in varying])
    result: Pattern = uniform(False, image.ndim)
    for tap in itertools.product(*(range(taps[axis]) for axis in varying)):
        slices, position = [slice(None)] * image.ndim, [0] * rank
        for axis, at in zip(varying, tap, strict=True):
            first, extent = at * dilation[axis], (taps[axis] - 1) * dilation[axis]
            slices[2 + axis] = slice(first, first + lengths[axis] - extent, strides[axis])
            position[axis] = at
        own: tuple[Any, ...] = (slice(None), *position)
        result = result | (padded[tuple(slices)] & kernel[own].reshape(1, -1, *(1,) * rank))
    return compress(result)


def _groups(shape: Sequence[int], new_shape: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yields runs of old and new axes, as short as possible, that hold the same number of elements."""
    i = j = 0
    while i < len(shape) or j < len(new_shape):
        old: list[int] = []
        new: list[int] = []
        sizes = [1, 1]
        while not (old or new) or sizes[0] != sizes[1]:
            if i < len(shape) and (sizes[0] < sizes[1] or j == len(new_shape) or not (old or new)):
                old.append(i)
                sizes[0] *= shape[i]
                i += 1
            else:
                new.append(j)
                sizes[1] *= new_shape[j]
                j += 1
        yield old, new


def _is_mixed(pattern: Pattern, axes: Sequence[int]) -> bool:
    return any(pattern.shape[axis] > 1 for axis in axes)
