"""The layers that every network is built from. Parameters are float32; `dtype` is what is computed in."""

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

# Fan-in keeps the variance of what flows forward, and so of the logits, the same through any depth of ReLUs
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
"""Activations by name. `leaky_relu` has a slope of 0.01 here; `activation_fn` makes others."""

UPSAMPLINGS = ("transposed", "bilinear", "nearest")
"""Up-samplings by name, for `UpSample`."""


def activation_fn(name: str, *, negative_slope: float = 0.01) -> Activation:
    """The activation called `name`; `negative_slope` is that of `leaky_relu` and has no meaning for others.

    Raises:
      KeyError: there is no activation of this name.
    """
    if name == "leaky_relu":
        return functools.partial(nn.leaky_relu, negative_slope=negative_slope)
    return ACTIVATIONS[name]


class Conv(nn.Module):
    """Convolution with the parameters of `nn.Conv`: `kernel` float32[kh, kw, C // groups, O], `bias` float32[O].

    Called with several inputs it gives what it would for their concatenation over channels, without the copy; inputs
    without channels, as some encoders have them at a level, are left out.
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
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """[B, H', W', features] of one or several [B, H, W, C_i]."""
        inputs = tuple(x for x in inputs if x.shape[-1])
        channels = sum(x.shape[-1] for x in inputs)
        size = _pair(self.kernel_size)
        kernel = self.param("kernel", self.kernel_init, (*size, channels // self.groups, self.features), jnp.float32)
        y = ops.conv(
            [x.astype(self.dtype) for x in inputs],
            kernel.astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            padding=self.padding,
        )
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(self.dtype)


class ConvTranspose(nn.Module):
    """Transposed convolution with the parameters, and on equal ones the values, of `nn.ConvTranspose`."""

    features: int
    kernel_size: int | tuple[int, int] = 2
    stride: int = 2
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = kernel_initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, stride * H, stride * W, features] of [B, H, W, C]."""
        shape = (*_pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = ops.conv_transpose(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(self.dtype)


class ConvNormAct(nn.Module):
    """Convolution, normalization, activation."""

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
    """Of the convolution; None: only where no normalization follows."""

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """[B, H', W', features] of one or several [B, H, W, C_i]."""
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
        )(*inputs)
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
    """Up-sampling by a factor of 2 to `features` channels, one of UPSAMPLINGS.

    "bilinear" and "nearest" change the channels with a 1x1 convolution before they resize: the two commute, and
    there are four times fewer pixels before.
    """

    features: int
    method: str = "transposed"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, 2 * H, 2 * W, features] of [B, H, W, C]."""
        if self.method == "transposed":
            return ConvTranspose(self.features, dtype=self.dtype, name="conv")(x)
        size = 2 * x.shape[1], 2 * x.shape[2]
        x = Conv(self.features, 1, dtype=self.dtype, name="conv")(x)
        if self.method == "bilinear":
            return ops.resize_bilinear(x, size)
        if self.method == "nearest":
            return ops.resize_nearest(x, size)
        raise ValueError(f"up-sampling {self.method!r}: allowed are {', '.join(UPSAMPLINGS)}")


def apply_block(block: nn.Module, *inputs: jax.Array, train: bool, remat: bool) -> Any:
    """`block(*inputs, train=train)`; with `remat` what it computes inside is not kept for the gradient but redone."""

    def call(block: nn.Module, *inputs: jax.Array) -> Any:
        return block(*inputs, train=train)

    return (nn.remat(call) if remat else call)(block, *inputs)


def pad_to_stride(x: jax.Array, stride: int) -> jax.Array:
    """[B, H, W, C] with zeros at the bottom and right up to multiples of `stride`; undone by `crop`."""
    bottom, right = -x.shape[1] % stride, -x.shape[2] % stride
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0))) if bottom or right else x


def crop(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The upper left `size` (height, width) of [B, H, W, C]."""
    return x[:, : size[0], : size[1]]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
