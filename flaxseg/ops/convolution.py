"""Convolution, in forms that XLA compiles to fast code."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from flaxseg.errors import ArgumentError
from flaxseg.ops.depthwise import MAX_TAPS, Pads, depthwise, depthwise_input_gradient, depthwise_kernel_gradient
from flaxseg.ops.example_sum import rows_are_split, sum_over_examples
from flaxseg.ops.platform import by_platform


class _Spec(NamedTuple):
    """The static parameters of a convolution; pairs are for rows and columns."""

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
    """Returns the convolution of an image, or of several images as if their channels were concatenated.

    Several inputs are convolved separately, each with its slice of the kernel, and the results are summed, which avoids
    the concatenated copy; with a 1x1 kernel, an input of a single pixel is broadcast to all pixels. On the CPU, the
    gradient of the kernel is computed in chunks of rows, which is faster and uses more cores than XLA's own form, and
    depthwise convolutions (groups = C = O) are computed as sums over the kernel's taps, which is tens of times faster.
    On other platforms XLA's forms are used.

    Args:
      inputs: float[B, H, W, C], or a sequence of float[B, H, W, C_i] whose C_i sum to C.
      kernel: float[kh, kw, C // groups, O], of the inputs' dtype.
      stride: the stride, for rows and columns.
      dilation: the dilation of the kernel, for rows and columns.
      groups: the number of groups of channels; must be 1 for several inputs.
      padding: "SAME", "VALID", "SYMMETRIC" (as PyTorch's networks pad: half of the dilated kernel's extent on either
        side, for any stride), or `((top, bottom), (left, right))`.

    Returns:
      float[B, H', W', O] of the inputs' dtype.

    Raises:
      ArgumentError: the inputs' channels do not add up to the kernel's, or several inputs with groups.
    """
    parts = list(inputs) if isinstance(inputs, Sequence) else [inputs]
    channels = [part.shape[-1] for part in parts]
    if sum(channels) != kernel.shape[2] * groups:
        raise ArgumentError(
            "kernel.shape", kernel.shape, f"does not fit inputs of {channels} channels, groups = {groups}"
        )
    if len(parts) > 1 and groups != 1:
        raise ArgumentError("groups", groups, f"must be 1 for {len(parts)} inputs; concatenate them, or use groups = 1")
    stride, dilation = _pair(stride), _pair(dilation)
    pads = _explicit_pads(parts[0].shape[1:3], kernel.shape[:2], stride, dilation, padding)
    spec = _Spec(stride, dilation, groups, pads)
    if len(parts) == 1:
        return _conv_one(parts[0], kernel, spec)
    ends = [sum(channels[: i + 1]) for i in range(len(channels))]
    slices = [kernel[:, :, end - size : end] for end, size in zip(ends, channels, strict=True)]
    return functools.reduce(jnp.add, [_conv_one(x, k, spec) for x, k in zip(parts, slices, strict=True)])


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
        # Independent of the image's size, so that a symbolic size can be exported.
        rows, columns = [((e - 1) // 2, e // 2) for e in extent]
        return rows, columns
    rows, columns = lax.padtype_to_pads(size, extent, stride, padding)
    return rows, columns


def _conv_one(x: jax.Array, kernel: jax.Array, spec: _Spec) -> jax.Array:
    kernel, spec = _without_padding_taps(kernel, x.shape[1:3], spec)
    pointwise = kernel.shape[:2] == (1, 1) and spec.pads == ((0, 0), (0, 0))
    if pointwise and spec.stride == (1, 1) and spec.groups == 1:
        return _matmul(x, kernel[0, 0])
    return _conv(x, kernel, spec)


def _without_padding_taps(kernel: jax.Array, size: Sequence[int], spec: _Spec) -> tuple[jax.Array, _Spec]:
    """Returns the kernel and spec without the rows and columns of taps that read only padding.

    In networks made for large images, the dilation can exceed the size of a small image: then only one of the nine taps
    of a 3x3 kernel remains.
    """
    pads: list[tuple[int, int]] = []
    kept: list[slice] = []
    for axis in range(2):
        (before, after), dilation, taps = spec.pads[axis], spec.dilation[axis], kernel.shape[axis]
        first, last = 0, taps - 1
        if isinstance(size[axis], int):
            outputs = (size[axis] + before + after - (taps - 1) * dilation - 1) // spec.stride[axis] + 1
            lowest = before - (outputs - 1) * spec.stride[axis]
            reading = [i for i in range(taps) if lowest <= i * dilation < size[axis] + before]
            first, last = (reading[0], reading[-1]) if reading else (first, last)
        pads.append((before - first * dilation, after - (taps - 1 - last) * dilation))
        kept.append(slice(first, last + 1))
    return kernel[kept[0], kept[1]], spec._replace(pads=(pads[0], pads[1]))


def _matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
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
    return by_platform(x, kernel, cpu=by_taps, default=plain)


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
        for_taps = functools.partial(depthwise_kernel_gradient, kernel_size=kernel.shape[:2], **options)
        return (
            by_platform(gradient, kernel, cpu=by_taps, default=for_x),
            by_platform(x, gradient, cpu=for_taps, default=for_kernel),
        )
    if not _is_faster_in_chunks(gradient.shape, spec) or rows_are_split():
        return for_x(gradient, kernel), for_kernel(x, gradient)
    by_rows = functools.partial(_kernel_gradient_by_rows, kernel_size=kernel.shape[:2], spec=spec)

    def chunked(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return sum_over_examples(by_rows, x, gradient).astype(kernel.dtype)

    return for_x(gradient, kernel), by_platform(x, gradient, cpu=chunked, default=for_kernel)


_conv.defvjp(_conv_forward, _conv_backward)


def _is_depthwise(shape: Sequence[int], spec: _Spec) -> bool:
    return spec.groups > 1 and (shape[2], shape[3]) == (1, spec.groups) and shape[0] * shape[1] <= MAX_TAPS


def _input_gradient(gradient: jax.Array, kernel: jax.Array, *, x: jax.Array, spec: _Spec) -> jax.Array:
    return jax.linear_transpose(lambda x: _xla_conv(x, kernel, spec), x)(gradient)[0]


def _kernel_gradient(x: jax.Array, gradient: jax.Array, *, kernel: jax.Array, spec: _Spec) -> jax.Array:
    return jax.linear_transpose(lambda kernel: _xla_conv(x, kernel, spec), kernel)(gradient)[0]


# Measured on training steps of the plain U-Net: more or smaller chunks take longer to compile and are not faster, and
# below 32 rows XLA's own form is as fast.
_MIN_ROWS = 32
_MIN_CHUNK_ROWS = 4
_MAX_CHUNKS = 8


def _is_faster_in_chunks(shape: tuple[int, ...], spec: _Spec) -> bool:
    return spec.groups == 1 and shape[1] >= _MIN_ROWS


def _kernel_gradient_by_rows(
    x: jax.Array, gradient: jax.Array, *, kernel_size: Sequence[int], spec: _Spec
) -> jax.Array:
    """Returns the gradient of the kernel, in at least float32, [kh, kw, C, O], as a sum over chunks of output rows.

    Each term is a convolution of the chunk's input rows with the chunk's gradient as the kernel, with the batch and
    channel axes swapped.
    """
    out_rows = gradient.shape[1]
    rows = max(_MIN_CHUNK_ROWS, math.ceil(out_rows / _MAX_CHUNKS))
    terms = [
        _chunk_gradient(x, gradient[:, first : first + rows], first, kernel_size, spec)
        for first in range(0, out_rows, rows)
    ]
    return functools.reduce(jnp.add, terms)


def _chunk_gradient(
    x: jax.Array, gradient: jax.Array, first: int, kernel_size: Sequence[int], spec: _Spec
) -> jax.Array:
    """Returns what the output rows from `first` on contribute, in at least float32; gradient: float[B, rows, W', O]."""
    (top, _), (left, _) = spec.pads
    row_low, row_high, row_pads = _input_range(
        first * spec.stride[0] - top, gradient.shape[1], x.shape[1], kernel_size[0], spec.stride[0], spec.dilation[0]
    )
    col_low, col_high, col_pads = _input_range(
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


def _input_range(
    start: int, outputs: int, size: int, taps: int, stride: int, dilation: int
) -> tuple[int, int, tuple[int, int]]:
    """Returns low and high of the inputs that `outputs` consecutive outputs read from `start` on, and their padding."""
    end = start + (outputs - 1) * stride + (taps - 1) * dilation + 1
    low, high = min(max(start, 0), size), max(min(end, size), 0)
    return low, high, (low - start, end - high)
