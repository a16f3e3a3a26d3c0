"""Depthwise convolution and its gradients, as sums over the kernel's taps, for the CPU."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

MAX_TAPS = 49
"""The largest number of taps for which this form is used; its compile time grows with the number of taps."""


def depthwise(x: jax.Array, kernel: jax.Array, *, stride: Pair, dilation: Pair, pads: Pads) -> jax.Array:
    """Returns the depthwise convolution, the sum of shifted images times one kernel value per channel.

    XLA's CPU backend has no fast form for convolutions with many groups; this one compiles to vectorized loops over
    channels. Sums are computed in at least float32.

    Args:
      x: float[B, H, W, C].
      kernel: float[kh, kw, 1, C], of x's dtype.
      stride: the stride, for rows and columns.
      dilation: the dilation of the kernel, for rows and columns.
      pads: numbers of zeros (top, bottom), (left, right) around the image; negative numbers crop the image.

    Returns:
      float[B, H', W', C] of x's dtype.
    """
    shifted = _taps(_padded(x, pads), kernel.shape[:2], stride, dilation)
    values = _to_float32(kernel).reshape(-1, kernel.shape[3])
    terms = (_to_float32(tap) * value for tap, value in zip(shifted, values, strict=True))
    return functools.reduce(jnp.add, terms).astype(x.dtype)


def depthwise_input_gradient(
    gradient: jax.Array, kernel: jax.Array, *, size: Sequence[int], stride: Pair, dilation: Pair, pads: Pads
) -> jax.Array:
    """Returns the gradient of the input of `depthwise`, float[B, *size, C], from the output's, float[B, H', W', C].

    It is `depthwise` with the flipped kernel, applied to the output's gradient dilated with zeros by the stride.
    """
    extent = [(k - 1) * d for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    dilated = [(n - 1) * s + 1 for n, s in zip(gradient.shape[1:3], stride, strict=True)]
    rows, columns = (
        (over - low, length + low - n) for over, (low, _), length, n in zip(extent, pads, size, dilated, strict=True)
    )
    gradient = _padded(gradient, (rows, columns), between=(stride[0] - 1, stride[1] - 1))
    return depthwise(gradient, kernel[::-1, ::-1], stride=(1, 1), dilation=dilation, pads=((0, 0), (0, 0)))


def depthwise_kernel_gradient(
    x: jax.Array, gradient: jax.Array, *, kernel_size: Sequence[int], stride: Pair, dilation: Pair, pads: Pads
) -> jax.Array:
    """Returns the gradient of the kernel of `depthwise`, float[kh, kw, 1, C], from the output's, float[B, H', W', C].

    One pass over the images sums all taps over images and rows. Summing over columns last lets XLA use vector units
    and several cores.
    """
    products = tuple(
        _to_float32(tap) * _to_float32(gradient) for tap in _taps(_padded(x, pads), kernel_size, stride, dilation)
    )
    zeros = (jnp.zeros((), products[0].dtype),) * len(products)
    by_column = lax.reduce(products, zeros, lambda a, b: tuple(map(jnp.add, a, b)), (0, 1))
    sums = jnp.stack([columns.sum(0) for columns in by_column])
    return sums.reshape(*kernel_size, 1, x.shape[-1]).astype(x.dtype)


def _to_float32(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _padded(x: jax.Array, pads: Pads, *, between: Pair = (0, 0)) -> jax.Array:
    """Returns `x` with zeros around it, and `between` its rows and columns."""
    (top, bottom), (left, right) = pads
    config = ((0, 0, 0), (top, bottom, between[0]), (left, right, between[1]), (0, 0, 0))
    # The barrier materializes the array once; otherwise its computation would be repeated for every tap.
    return lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), config))


def _taps(x: jax.Array, kernel_size: Sequence[int], stride: Pair, dilation: Pair) -> Iterator[jax.Array]:
    """Yields, for each tap of the kernel in row-major order, the values that the outputs read: float[B, H', W', C]."""
    height, width = (
        (length - (k - 1) * d - 1) // s + 1
        for length, k, d, s in zip(x.shape[1:3], kernel_size, dilation, stride, strict=True)
    )
    for tap in range(kernel_size[0] * kernel_size[1]):
        row, column = (at * d for at, d in zip(divmod(tap, kernel_size[1]), dilation, strict=True))
        rows = slice(row, row + (height - 1) * stride[0] + 1, stride[0])
        yield x[:, rows, column : column + (width - 1) * stride[1] + 1 : stride[1]]
