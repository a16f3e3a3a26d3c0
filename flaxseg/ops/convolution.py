"""Convolution and transposed convolution, written in the forms that compile to fast code."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


class _Spec(NamedTuple):
    """The static part of a convolution; a row and a column number each."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    pads: Pads


def conv(
    inputs: jax.Array | Sequence[jax.Array],
    kernel: jax.Array,
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
) -> jax.Array:
    """Convolution of a picture, or of several as if they were concatenated over channels.

    Several inputs are convolved one by one with their share of the kernel and summed, which spares the
    concatenated copy. The gradient for the kernel is computed on the CPU in chunks of rows, which XLA's CPU
    backend runs faster and on more cores than its own form; other platforms keep theirs.

    Args:
      inputs: float[B, H, W, C], or a sequence of float[B, H, W, C_i] whose C_i sum to C.
      kernel: float[kh, kw, C // groups, O], of the inputs' dtype.
      stride: step between outputs, for rows and columns.
      dilation: step between the kernel's taps, for rows and columns.
      groups: number of independent groups of channels; several inputs need 1.
      padding: "SAME", "VALID", "SYMMETRIC" (half of what the kernel reaches on either side, whatever the stride, as
        PyTorch's networks pad), or `((top, bottom), (left, right))`.

    Returns:
      float[B, H', W', O] of the inputs' dtype.

    Raises:
      ValueError: the inputs' channels do not add up to the kernel's, or several inputs with groups.
    """
    parts = list(inputs) if isinstance(inputs, Sequence) else [inputs]
    channels = [part.shape[-1] for part in parts]
    if sum(channels) != kernel.shape[2] * groups:
        raise ValueError(f"inputs of {channels} channels for a kernel {kernel.shape} with groups={groups}")
    if len(parts) > 1 and groups != 1:
        raise ValueError(f"{len(parts)} inputs with groups={groups}: concatenate them, or use groups=1")
    stride, dilation = _pair(stride), _pair(dilation)
    pads = _explicit_pads(parts[0].shape[1:3], kernel.shape[:2], stride, dilation, padding)
    spec = _Spec(stride, dilation, groups, pads)
    if len(parts) == 1:
        return _conv_one(parts[0], kernel, spec)
    ends = [sum(channels[: i + 1]) for i in range(len(channels))]
    shares = [kernel[:, :, end - size : end] for end, size in zip(ends, channels, strict=True)]
    return functools.reduce(jnp.add, [_conv_one(x, share, spec) for x, share in zip(parts, shares, strict=True)])


def conv_transpose(x: jax.Array, kernel: jax.Array, *, stride: int = 2) -> jax.Array:
    """Transposed convolution with SAME padding: the output is `stride` times as high and wide.

    A kernel as large as its stride touches each output pixel once. That is a matrix product to stride**2 times
    the channels followed by a rearrangement, several times as fast as the general form.

    Args:
      x: float[B, H, W, C].
      kernel: float[kh, kw, C, O], oriented like the one of `flax.linen.ConvTranspose`.
      stride: up-sampling factor.

    Returns:
      float[B, stride * H, stride * W, O].
    """
    kh, kw, _, features = kernel.shape
    if (kh, kw) != (stride, stride):
        return lax.conv_transpose(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    batch, height, width, _ = x.shape
    # lax.conv_transpose does not flip the kernel: the last tap makes the first of each group of output pixels.
    taps = kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(x.shape[-1], kh * kw * features)
    pixels = _product(x, taps).reshape(batch, height, width, kh, kw, features)
    return pixels.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * kh, width * kw, features)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _explicit_pads(
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
) -> Pads:
    if not isinstance(padding, str):
        (top, bottom), (left, right) = padding
        return (top, bottom), (left, right)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if padding == "SYMMETRIC":
        rows, columns = [((e - 1) // 2, (e - 1) // 2) for e in extent]
        return rows, columns
    if padding == "SAME" and stride == (1, 1):
        # Does not depend on the picture's size, so that a symbolic size can be exported.
        rows, columns = [((e - 1) // 2, e // 2) for e in extent]
        return rows, columns
    rows, columns = lax.padtype_to_pads(size, extent, stride, padding)
    return rows, columns


def _conv_one(x: jax.Array, kernel: jax.Array, spec: _Spec) -> jax.Array:
    pointwise = kernel.shape[:2] == (1, 1) and spec.pads == ((0, 0), (0, 0))
    if pointwise and spec.stride == (1, 1) and spec.groups == 1:
        return _product(x, kernel[0, 0])
    return _conv(x, kernel, spec)


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return lax.dot_general(x, matrix, (((3,), (0,)), ((), ())))


def _xla_conv(x: jax.Array, kernel: jax.Array, spec: _Spec) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        spec.stride,
        spec.pads,
        rhs_dilation=spec.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=spec.groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, kernel: jax.Array, spec: _Spec) -> jax.Array:
    return _xla_conv(x, kernel, spec)


def _conv_forward(x: jax.Array, kernel: jax.Array, spec: _Spec) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _xla_conv(x, kernel, spec), (x, kernel)


def _conv_backward(
    spec: _Spec, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    for_x = jax.linear_transpose(lambda x: _xla_conv(x, kernel, spec), x)(gradient)[0]
    plain = functools.partial(_kernel_gradient, kernel=kernel, spec=spec)
    if not _chunks_pay(gradient.shape, spec):
        return for_x, plain(x, gradient)
    chunked = functools.partial(_kernel_gradient_by_rows, kernel_size=kernel.shape[:2], spec=spec)
    return for_x, lax.platform_dependent(x, gradient, cpu=chunked, default=plain)


_conv.defvjp(_conv_forward, _conv_backward)


def _kernel_gradient(x: jax.Array, gradient: jax.Array, *, kernel: jax.Array, spec: _Spec) -> jax.Array:
    return jax.linear_transpose(lambda kernel: _xla_conv(x, kernel, spec), kernel)(gradient)[0]


# Measured on training steps of the plain U-Net: more or smaller chunks take longer to compile and run no faster,
# and below 32 rows XLA's own form is as fast.
_MIN_ROWS = 32
_MIN_CHUNK_ROWS = 4
_MAX_CHUNKS = 8


def _chunks_pay(shape: tuple[int, ...], spec: _Spec) -> bool:
    return spec.groups == 1 and shape[1] >= _MIN_ROWS


def _kernel_gradient_by_rows(
    x: jax.Array, gradient: jax.Array, *, kernel_size: Sequence[int], spec: _Spec
) -> jax.Array:
    """The kernel's gradient as a sum over chunks of output rows: float[kh, kw, C, O].

    Each term is itself a convolution, of the chunk's input rows with its gradient as the kernel, in which
    pictures and channels change places.
    """
    out_rows = gradient.shape[1]
    rows = max(_MIN_CHUNK_ROWS, math.ceil(out_rows / _MAX_CHUNKS))
    terms = [
        _chunk_gradient(x, gradient[:, first : first + rows], first, kernel_size, spec)
        for first in range(0, out_rows, rows)
    ]
    return functools.reduce(jnp.add, terms).astype(x.dtype)


def _chunk_gradient(
    x: jax.Array, gradient: jax.Array, first: int, kernel_size: Sequence[int], spec: _Spec
) -> jax.Array:
    """What output rows `first`.. (float[B, rows, W', O] of the gradient) add to it, in float32 at least."""
    (top, _), (left, _) = spec.pads
    row_low, row_high, row_pads = _window(
        first * spec.stride[0] - top, gradient.shape[1], x.shape[1], kernel_size[0], spec.stride[0], spec.dilation[0]
    )
    col_low, col_high, col_pads = _window(
        -left, gradient.shape[2], x.shape[2], kernel_size[1], spec.stride[1], spec.dilation[1]
    )
    return lax.conv_general_dilated(
        x[:, row_low:row_high, col_low:col_high],
        gradient,
        window_strides=spec.dilation,
        padding=(row_pads, col_pads),
        rhs_dilation=spec.stride,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    )


def _window(
    start: int, outputs: int, size: int, taps: int, stride: int, dilation: int
) -> tuple[int, int, tuple[int, int]]:
    """The inputs that `outputs` neighbouring outputs read from `start` on: first, end, and padding around them."""
    end = start + (outputs - 1) * stride + (taps - 1) * dilation + 1
    low, high = min(max(start, 0), size), max(min(end, size), 0)
    return low, high, (low - start, end - high)
