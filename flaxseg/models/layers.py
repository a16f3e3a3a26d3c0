"""The layers that every network is built from. Parameters are float32; `dtype` is what is computed in."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops

Activation = Callable[[jax.Array], jax.Array]
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

NORMS = ("batch", "group", "none")
"""Normalisations by name, for `norm`."""

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


def norm(
    kind: str,
    features: int,
    *,
    train: bool,
    dtype: Any,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    name: str | None = "norm",
) -> Activation:
    """A normalisation layer for `features` channels, or the identity for "none".

    "batch" is BatchNorm with this momentum. "group" has 16 channels to a group (fewer where 16 does not divide them),
    the choice of its paper that does not depend on width (Wu and He 2018, https://arxiv.org/abs/1803.08494).

    Raises:
      ValueError: `kind` is not one of NORMS.
    """
    if kind == "batch":
        return BatchNorm(not train, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name)
    if kind == "group":
        return nn.GroupNorm(num_groups=None, group_size=math.gcd(16, features), epsilon=1e-5, dtype=dtype, name=name)
    if kind == "none":
        return identity
    raise ValueError(f"norm {kind!r}: allowed are {', '.join(NORMS)}")


# Up to this many values a channel, a second pass costs nothing, and such may be the means of whole maps: they differ
# little from one another, so that the difference of their mean square and squared mean would be rounding.
_FEW_VALUES = 1024


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167) with the variables of Flax's own.

    Statistics are computed in float32 over the global batch: without an axis name, as a batch sharded under `jax.jit`
    needs. Unlike Flax's, the running variance is the unbiased one (over n - 1), as PyTorch and TensorFlow keep it, so
    that pretrained statistics go on as they would there. `momentum` is the share of the old statistics that stays.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalised [..., C], of `dtype`."""
        shape = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
        if self.use_running_average:
            mean, variance = running_mean.value, running_var.value
        else:
            count = x.size // x.shape[-1]
            mean = wide.mean(axes)
            if count <= _FEW_VALUES:
                variance = jnp.square(wide - mean).mean(axes)
            else:
                variance = jnp.maximum(jnp.square(wide).mean(axes) - jnp.square(mean), 0)
            if not self.is_initializing():
                unbiased = variance * (count / max(count - 1, 1))
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        return ((wide - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias).astype(self.dtype)


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
    """Convolution, normalisation, activation."""

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
    """Of the convolution; None: only where no normalisation follows."""

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
        normalise = norm(
            self.norm,
            self.features,
            train=train,
            dtype=self.dtype,
            momentum=self.momentum,
            epsilon=self.epsilon,
        )
        return self.activation(normalise(x))


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


def identity(x: jax.Array) -> jax.Array:
    """`x`, as the activation of a block without one."""
    return x


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
