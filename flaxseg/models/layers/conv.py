"""The layers that every network is built from. Parameters are float32; `dtype` is the data type of the computation."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.layers.normalization import Activation, norm

Initializer = Callable[..., jax.Array]

# Fan-in scaling keeps the variance of activations, and so of the logits, the same through any depth of ReLUs
# (He et al. 2015, https://arxiv.org/abs/1502.01852).
kernel_initializer: Initializer = nn.initializers.he_normal()

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "relu": nn.relu,
        "relu6": nn.relu6,
        "leaky_relu": nn.leaky_relu,
        "elu": nn.elu,
        "gelu": nn.gelu,
        "silu": nn.silu,
        "swish": nn.silu,
        "hard_swish": nn.hard_swish,
    }
)
"""Activations by name. `leaky_relu` has a negative slope of 0.01; `activation_fn` returns it with other slopes."""

UPSAMPLINGS = ("transposed", "bilinear", "nearest")
"""The methods of `UpSample`."""


def activation_fn(name: str, *, negative_slope: float = 0.01) -> Activation:
    """Returns the activation called `name`.

    Args:
      name: a name of ACTIVATIONS.
      negative_slope: the slope of "leaky_relu" below 0; other activations ignore it.

    Raises:
      KeyError: there is no activation of this name.
    """
    if name == "leaky_relu":
        return functools.partial(nn.leaky_relu, negative_slope=negative_slope)
    return ACTIVATIONS[name]


class Conv(nn.Module):
    """Convolution with the parameters of `nn.Conv`: `kernel` float32[kh, kw, C // groups, O], `bias` float32[O].

    With several inputs the output equals that for their concatenation over channels, without copying them. Inputs
    without channels, which some encoders have at a level, are omitted.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel; one number for both.
      stride: vertical and horizontal stride; one number for both.
      dilation: vertical and horizontal dilation; one number for both.
      groups: number of groups of channels that are convolved separately.
      padding: "SAME", "SYMMETRIC" (as much on either side), "VALID", or ((top, bottom), (left, right)).
      use_bias: add a bias.
      dtype: float32 or bfloat16, the data type of the computation.
      kernel_init: initializer of the kernel.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int | tuple[int, int] = 1
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    padding: str | Sequence[tuple[int, int]] = "SAME"
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = kernel_initializer

    @nn.compact
    def __call__(self, *inputs: jax.Array, size: tuple[int, int] | None = None) -> jax.Array:
        """Returns features [B, H', W', features] of one or several inputs [B, H, W, C_i].

        With `size`, inputs of another size are resized to it before, by nearest-neighbor interpolation.
        """
        inputs = tuple(x for x in inputs if x.shape[-1])
        channels = sum(x.shape[-1] for x in inputs)
        shape = (*_pair(self.kernel_size), channels // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = ops.conv(
            [x.astype(self.dtype) for x in inputs],
            kernel.astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            padding=self.padding,
            size=size,
        )
        return _add_bias(self, y) if self.use_bias else y


class ConvTranspose(nn.Module):
    """Transposed convolution with the parameters and values of `nn.ConvTranspose`.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel; one number for both.
      stride: factor by which height and width grow.
      use_bias: add a bias.
      dtype: float32 or bfloat16, the data type of the computation.
      kernel_init: initializer of the kernel.
    """

    features: int
    kernel_size: int | tuple[int, int] = 2
    stride: int = 2
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = kernel_initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, stride * H, stride * W, features] of [B, H, W, C]."""
        shape = (*_pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = ops.conv_transpose(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride)
        return _add_bias(self, y) if self.use_bias else y


def _add_bias(layer: Conv | ConvTranspose, y: jax.Array) -> jax.Array:
    bias = layer.param("bias", nn.initializers.zeros_init(), (layer.features,), jnp.float32)
    return y + bias.astype(layer.dtype)


class ConvNormAct(nn.Module):
    """Convolution, normalization, activation.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel; one number for both.
      stride: vertical and horizontal stride; one number for both.
      dilation: vertical and horizontal dilation; one number for both.
      groups: number of groups of channels that are convolved separately.
      norm: "batch", "group" or "none".
      activation: the function that is applied last.
      dtype: float32 or bfloat16, the data type of the computation.
      padding: see `Conv`.
      momentum: the decay rate of running batch statistics.
      epsilon: added to the variance of batch normalization.
      use_bias: add a bias to the convolution; None: only without normalization.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int | tuple[int, int] = 1
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    norm: str = "batch"
    activation: Activation = nn.relu
    dtype: Any = jnp.float32
    padding: str | Sequence[tuple[int, int]] = "SAME"
    momentum: float = 0.9
    epsilon: float = 1e-5
    use_bias: bool | None = None

    @nn.compact
    def __call__(self, *inputs: jax.Array, size: tuple[int, int] | None = None, train: bool) -> jax.Array:
        """Returns features [B, H', W', features] of one or several inputs [B, H, W, C_i]; for `size`, see `Conv`."""
        x = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            self.dilation,
            self.groups,
            self.padding,
            use_bias=self.norm == "none" if self.use_bias is None else self.use_bias,
            dtype=self.dtype,
            name="conv",
        )(*inputs, size=size)
        normalize = norm(
            self.norm,
            self.features,
            train=train,
            dtype=self.dtype,
            momentum=self.momentum,
            epsilon=self.epsilon,
        )
        return self.activation(normalize(x))


class UpSample(nn.Module):
    """Upsampling by a factor of 2.

    "bilinear" and "nearest" apply a 1x1 convolution before they resize: the two operations commute, and there are
    four times fewer pixels before.

    Attributes:
      features: number of output channels.
      method: "transposed" (2x2 transposed convolution), "bilinear" or "nearest".
      dtype: float32 or bfloat16, the data type of the computation.
    """

    features: int
    method: str = "transposed"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, 2 * H, 2 * W, features] of [B, H, W, C]."""
        if self.method == "transposed":
            return ConvTranspose(self.features, dtype=self.dtype, name="conv")(x)
        size = 2 * x.shape[1], 2 * x.shape[2]
        x = Conv(self.features, 1, dtype=self.dtype, name="conv")(x)
        if self.method == "bilinear":
            return ops.resize_bilinear(x, size)
        if self.method == "nearest":
            return ops.resize_nearest(x, size)
        raise ValueError(f"upsampling {self.method!r}: allowed are {', '.join(UPSAMPLINGS)}")


def pad_to_stride(x: jax.Array, stride: int) -> jax.Array:
    """Returns [B, H, W, C] padded with zeros at the bottom and right to multiples of `stride`; see `crop`."""
    bottom, right = -x.shape[1] % stride, -x.shape[2] % stride
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0))) if bottom or right else x


def crop(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns the upper left part, of height and width `size`, of [B, H, W, C]."""
    return x[:, : size[0], : size[1]]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
