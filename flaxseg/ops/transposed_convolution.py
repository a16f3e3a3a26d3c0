"""Transposed convolution, in forms that XLA compiles to fast code."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from flaxseg.ops.convolution import conv
from flaxseg.ops.platform import by_platform


def conv_transpose(x: jax.Array, kernel: jax.Array, *, stride: int = 2) -> jax.Array:
    """Returns the transposed convolution with SAME padding; the output is `stride` times as high and wide.

    Output pixels that are `stride` apart are computed by the same taps, so that the operation equals a convolution with
    stride**2 times the channels, followed by a depth-to-space rearrangement. For kernels no larger than the stride,
    this form is a matrix product, several times faster than the general form. For larger kernels it is used on the CPU
    where XLA's own form is slow: for gradients, and for values if the kernel's size is a multiple of the stride.

    Args:
      x: float[B, H, W, C].
      kernel: float[kh, kw, C, O], in the orientation of `flax.linen.ConvTranspose`.
      stride: the upsampling factor.

    Returns:
      float[B, stride * H, stride * W, O].
    """
    if max(kernel.shape[:2]) <= stride:
        return _by_phases(x, kernel, stride=stride)
    return _overlapping(x, kernel, stride)


def _value(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    plain = functools.partial(_xla_conv_transpose, stride=stride)
    if kernel.shape[0] % stride or kernel.shape[1] % stride:
        return plain(x, kernel)
    return by_platform(x, kernel, cpu=functools.partial(_by_phases, stride=stride), default=plain)


_overlapping = jax.custom_vjp(_value, nondiff_argnums=(2,))


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _value(x, kernel, stride), (x, kernel)


def _backward(stride: int, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    by_phases, plain = (
        functools.partial(_gradients, form=functools.partial(form, stride=stride))
        for form in (_by_phases, _xla_conv_transpose)
    )
    return by_platform(*residuals, gradient, cpu=by_phases, default=plain)


_overlapping.defvjp(_forward, _backward)


def _gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, *, form: Callable[..., jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(form, x, kernel)[1](gradient)


def _xla_conv_transpose(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    return lax.conv_transpose(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _by_phases(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Returns the transposed convolution as one convolution to stride**2 phases per pixel, and depth to space."""
    kernel, rows = _phases(kernel, 0, stride)
    kernel, columns = _phases(kernel, 2, stride)
    kh, _, kw, _, channels, features = kernel.shape
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(kh, kw, channels, stride * stride * features)
    y = conv(x, kernel, padding=(rows, columns))
    batch, height, width, _ = y.shape
    y = y.reshape(batch, height, width, stride, stride, features).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(batch, height * stride, width * stride, features)


def _phases(kernel: jax.Array, axis: int, stride: int) -> tuple[jax.Array, tuple[int, int]]:
    """Returns the kernel with its taps along an axis as [window, stride], and the padding that the window needs.

    With x dilated by the stride and padded by `before`, as in `lax.conv_transpose`, output stride * q + p is the sum of
    x[q + j] times tap before - p + stride * j. The window covers all j for which this tap exists for some phase p.
    """
    taps = kernel.shape[axis]
    before = taps - 1 if stride > taps - 1 else (taps + stride - 1) // 2
    low, high = -(before // stride), (taps - 1 - before + stride - 1) // stride
    first, last = before - (stride - 1) + stride * low, before + stride * high
    config = [(0, 0, 0)] * kernel.ndim
    config[axis] = (-first, last + 1 - taps, 0)
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), config)
    shape = (*kernel.shape[:axis], high - low + 1, stride, *kernel.shape[axis + 1 :])
    # The last tap of each group belongs to phase p = 0.
    return jnp.flip(kernel.reshape(shape), axis + 1), (-low, high)
