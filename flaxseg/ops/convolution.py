"""Convolution, written in the forms that compile to fast code."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from flaxseg.ops.depthwise import MAX_TAPS, Pads, depthwise, depthwise_input_gradient, depthwise_kernel_gradient


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
    concatenated copy; with a 1x1 kernel, an input of a single pixel stands for that pixel everywhere. The gradient
    for the kernel is computed on the CPU in chunks of rows, which XLA's CPU backend runs faster and on more cores
    than its own form; a convolution of each channel by itself (groups = C = O) is a sum over the kernel's taps there,
    tens of times as fast. Other platforms keep their forms.

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
    kernel, spec = _without_idle_taps(kernel, x.shape[1:3], spec)
    pointwise = kernel.shape[:2] == (1, 1) and spec.pads == ((0, 0), (0, 0))
    if pointwise and spec.stride == (1, 1) and spec.groups == 1:
        return _product(x, kernel[0, 0])
    return _conv(x, kernel, spec)


def _without_idle_taps(kernel: jax.Array, size: Sequence[int], spec: _Spec) -> tuple[jax.Array, _Spec]:
    """The same convolution without rows and columns of taps that only ever read the zeros around a picture.

    Kernels are dilated by more than a small picture's size where a network expects large ones: of the nine taps of a
    3x3 kernel one is left.
    """
    pads: list[tuple[int, int]] = []
    kept: list[slice] = []
    for axis in range(2):
        (before, after), dilation, taps = spec.pads[axis], spec.dilation[axis], kernel.shape[axis]
        first, last = 0, taps - 1
        if isinstance(size[axis], int):
            outputs = (size[axis] + before + after - (taps - 1) * dilation - 1) // spec.stride[axis] + 1
            reach = before - (outputs - 1) * spec.stride[axis]
            reading = [i for i in range(taps) if reach <= i * dilation < size[axis] + before]
            first, last = (reading[0], reading[-1]) if reading else (first, last)
        pads.append((before - first * dilation, after - (taps - 1 - last) * dilation))
        kept.append(slice(first, last + 1))
    return kernel[kept[0], kept[1]], spec._replace(pads=(pads[0], pads[1]))


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


def _value(x: jax.Array, kernel: jax.Array, spec: _Spec) -> jax.Array:
    plain = functools.partial(_xla_conv, spec=spec)
    if not _is_depthwise(kernel.shape, spec):
        return plain(x, kernel)
    by_taps = functools.partial(depthwise, stride=spec.stride, dilation=spec.dilation, pads=spec.pads)
    return lax.platform_dependent(x, kernel, cpu=by_taps, default=plain)


_conv = jax.custom_vjp(_value, nondiff_argnums=(2,))


def _conv_forward(x: jax.Array, kernel: jax.Array, spec: _Spec) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _value(x, kernel, spec), (x, kernel)


def _conv_backward(
    spec: _Spec, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    for_x = functools.partial(_input_gradient, x=x, spec=spec)
    for_kernel = functools.partial(_kernel_gradient, kernel=kernel, spec=spec)
    if _is_depthwise(kernel.shape, spec):
        options: dict[str, Any] = {"stride": spec.stride, "dilation": spec.dilation, "pads": spec.pads}
        by_taps = functools.partial(depthwise_input_gradient, size=x.shape[1:3], **options)
        of_taps = functools.partial(depthwise_kernel_gradient, kernel_size=kernel.shape[:2], **options)
        return (
            lax.platform_dependent(gradient, kernel, cpu=by_taps, default=for_x),
            lax.platform_dependent(x, gradient, cpu=of_taps, default=for_kernel),
        )
    if not _chunks_pay(gradient.shape, spec):
        return for_x(gradient, kernel), for_kernel(x, gradient)
    chunked = functools.partial(_kernel_gradient_by_rows, kernel_size=kernel.shape[:2], spec=spec)
    return for_x(gradient, kernel), lax.platform_dependent(x, gradient, cpu=chunked, default=for_kernel)


_conv.defvjp(_conv_forward, _conv_backward)


def _is_depthwise(shape: Sequence[int], spec: _Spec) -> bool:
    return spec.groups > 1 and (shape[2], shape[3]) == (1, spec.groups) and shape[0] * shape[1] <= MAX_TAPS


def _input_gradient(gradient: jax.Array, kernel: jax.Array, *, x: jax.Array, spec: _Spec) -> jax.Array:
    return jax.linear_transpose(lambda x: _xla_conv(x, kernel, spec), x)(gradient)[0]


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
    """The inputs that `outputs` neighboring outputs read from `start` on: first, end, and padding around them."""
    end = start + (outputs - 1) * stride + (taps - 1) * dilation + 1
    low, high = min(max(start, 0), size), max(min(end, size), 0)
    return low, high, (low - start, end - high)
