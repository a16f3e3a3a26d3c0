"""The gradient of a convolution's kernel, in a form that is fast on the CPU."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from flaxseg.ops.depthwise import Pads

Pair = tuple[int, int]

# Measured on training steps of the plain U-Net: more or smaller chunks take longer to compile and are not faster.
_MIN_CHUNK_ROWS = 4
_MAX_CHUNKS = 8


def kernel_gradient_by_rows(
    x: jax.Array, gradient: jax.Array, *, kernel_size: Sequence[int], stride: Pair, dilation: Pair, pads: Pads
) -> jax.Array:
    """Returns the gradient of the kernel, in at least float32, [kh, kw, C, O], as a sum over chunks of output rows.

    Each term is a convolution of the chunk's input rows with the chunk's gradient as the kernel, with the batch and
    channel axes swapped.
    """
    out_rows = gradient.shape[1]
    rows = max(_MIN_CHUNK_ROWS, math.ceil(out_rows / _MAX_CHUNKS))
    terms = [
        _chunk_gradient(x, gradient[:, first : first + rows], first, kernel_size, stride, dilation, pads)
        for first in range(0, out_rows, rows)
    ]
    return functools.reduce(jnp.add, terms)


def _chunk_gradient(
    x: jax.Array, gradient: jax.Array, first: int, kernel_size: Sequence[int], stride: Pair, dilation: Pair, pads: Pads
) -> jax.Array:
    """Returns what the output rows from `first` on contribute, in at least float32; gradient: float[B, rows, W', O]."""
    (top, _), (left, _) = pads
    row_low, row_high, row_pads = _input_range(
        first * stride[0] - top, gradient.shape[1], x.shape[1], kernel_size[0], stride[0], dilation[0]
    )
    col_low, col_high, col_pads = _input_range(
        -left, gradient.shape[2], x.shape[2], kernel_size[1], stride[1], dilation[1]
    )
    return lax.conv_general_dilated(
        x[:, row_low:row_high, col_low:col_high],
        gradient,
        window_strides=dilation,
        padding=(row_pads, col_pads),
        rhs_dilation=stride,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    )


def _input_range(
    start: int, outputs: int, size: int, taps: int, stride: int, dilation: int
) -> tuple[int, int, tuple[int, int]]:
    """Returns low and high of the inputs that `outputs` consecutive outputs read from `start` on, and their padding."""
    end = start + (outputs - 1) * stride + (taps - 1) * dilation + 1
    low, high = min(max(start, 0), size), max(min(end, size), 0)
    return low, high, (low - start, end - high)
