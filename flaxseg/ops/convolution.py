"""Convolution, in forms that XLA compiles to fast code."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from flaxseg.errors import ArgumentError
from flaxseg.ops.depthwise import MAX_TAPS, Pads, depthwise, depthwise_input_gradient, depthwise_kernel_gradient
from flaxseg.ops.doubled_convolution import conv_doubled
from flaxseg.ops.example_sum import rows_are_split, sum_over_examples
from flaxseg.ops.kernel_gradient import kernel_gradient_by_rows
from flaxseg.ops.platform import by_platform
from flaxseg.ops.product import product
from flaxseg.ops.resize import resize_nearest


class _Spec(NamedTuple):
    """The static parameters of a convolution; pairs are for rows and columns."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    pads: Pads


_SAME = _Spec((1, 1), (1, 1), 1, ((1, 1), (1, 1)))
"""Those of the usual 3x3 convolution."""


def conv(
    inputs: jax.Array | Sequence[jax.Array],
    kernel: jax.Array,
    *,
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
    size: tuple[int, int] | None = None,
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
      size: height and width that inputs of another size are resized to before, by nearest-neighbor interpolation; for
        twice the size, see `conv_doubled`. None: all have the same size.

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
    pads = _explicit_pads(size or parts[0].shape[1:3], kernel.shape[:2], stride, dilation, padding)
    spec = _Spec(stride, dilation, groups, pads)
    if len(parts) == 1:
        return _conv_resized(parts[0], kernel, spec, size)
    ends = [sum(channels[: i + 1]) for i in range(len(channels))]
    slices = [kernel[:, :, end - size : end] for end, size in zip(ends, channels, strict=True)]
    terms = [_conv_resized(x, part, spec, size) for x, part in zip(parts, slices, strict=True)]
    return functools.reduce(jnp.add, terms)


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


# Measured on training steps of U-Nets: below, four convolutions are not faster than one of the larger image.
_MIN_DOUBLED_ROWS = 8


def _conv_resized(x: jax.Array, kernel: jax.Array, spec: _Spec, size: tuple[int, int] | None) -> jax.Array:
    height, width = x.shape[1:3]
    if size is None or size == (height, width):
        return _conv_one(x, kernel, spec)
    # Where rows are split between devices, one convolution exchanges fewer of them than four.
    is_doubled = (
        not rows_are_split() and size == (2 * height, 2 * width) and kernel.shape[:2] == (3, 3) and spec == _SAME
    )
    # An image whose size is not known, as in an exported program, is resized.
    if is_doubled and all(isinstance(length, int) and length >= _MIN_DOUBLED_ROWS for length in (height, width)):
        return conv_doubled(x, kernel, _conv_padded)
    return _conv_one(resize_nearest(x, size), kernel, spec)


def _conv_padded(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    return _conv_one(x, kernel, _SAME._replace(pads=pads))


def _conv_one(x: jax.Array, kernel: jax.Array, spec: _Spec) -> jax.Array:
    kernel, spec = _without_padding_taps(kernel, x.shape[1:3], spec)
    pointwise = kernel.shape[:2] == (1, 1) and spec.pads == ((0, 0), (0, 0))
    if pointwise and spec.stride == (1, 1) and spec.groups == 1:
        return product(x, kernel[0, 0])
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
        # Where examples are split over devices and rows are gathered, XLA's partitioner adds its own form of this
        # gradient once for each device of the rows (jax 0.10.2).
        elsewhere = for_taps if rows_are_split() else for_kernel
        return (
            by_platform(gradient, kernel, cpu=by_taps, default=for_x),
            by_platform(x, gradient, cpu=for_taps, default=elsewhere),
        )
    if not _is_faster_in_chunks(gradient.shape, spec) or rows_are_split():
        return for_x(gradient, kernel), for_kernel(x, gradient)
    by_rows = functools.partial(
        kernel_gradient_by_rows,
        kernel_size=kernel.shape[:2],
        stride=spec.stride,
        dilation=spec.dilation,
        pads=spec.pads,
    )

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


_MIN_ROWS = 32
"""Below this number of rows, XLA's own form of a kernel's gradient is as fast as that in chunks."""


def _is_faster_in_chunks(shape: tuple[int, ...], spec: _Spec) -> bool:
    return spec.groups == 1 and shape[1] >= _MIN_ROWS
