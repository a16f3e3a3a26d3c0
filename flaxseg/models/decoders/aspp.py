"""Atrous spatial pyramid pooling (Chen et al. 2017, https://arxiv.org/abs/1706.05587), which the DeepLabs share."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import Conv, ConvNormAct
from flaxseg.models.layers.normalization import norm


class SeparableConvNormAct(nn.Module):
    """A 3x3 convolution of each channel by itself, a 1x1 convolution, normalization, ReLU."""

    features: int
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, features] of [B, H, W, C]."""
        width = x.shape[-1]
        options = {"use_bias": False, "dtype": self.dtype}
        x = Conv(width, 3, dilation=self.dilation, groups=width, **options, name="depthwise")(x)
        x = Conv(self.features, 1, **options, name="pointwise")(x)
        return nn.relu(norm("batch", self.features, train=train, dtype=self.dtype)(x))


class ASPP(nn.Module):
    """A 1x1 convolution, a 3x3 of each dilation, and the mean of the whole map, joined by a 1x1 convolution."""

    channels: int
    rates: tuple[int, ...]
    """Dilation of the branches 1, 2, 3; branch 0 is the 1x1 convolution."""
    separable: bool
    """Whether these are `SeparableConvNormAct`."""
    dropout: float
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"convs\.0\.0", r"branch0/conv"),
        (r"convs\.([1-3])\.0", r"branch\1/conv"),
        (r"convs\.([1-3])\.0\.0", r"branch\1/depthwise"),
        (r"convs\.([1-3])\.0\.1", r"branch\1/pointwise"),
        (r"convs\.([0-3])\.1", r"branch\1/norm"),
        (r"convs\.4\.1", r"pooling/conv"),
        (r"convs\.4\.2", r"pooling/norm"),
        (r"project\.0", r"project/conv"),
        (r"project\.1", r"project/norm"),
    )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, channels] of [B, H, W, C]."""
        branches = [ConvNormAct(self.channels, 1, dtype=self.dtype, name="branch0")(x, train=train)]
        layer = SeparableConvNormAct if self.separable else ConvNormAct
        for number, rate in enumerate(self.rates, 1):
            branch = layer(self.channels, dilation=rate, dtype=self.dtype, name=f"branch{number}")
            branches.append(branch(x, train=train))
        mean = ops.adaptive_average_pool(x, 1)
        branches.append(ConvNormAct(self.channels, 1, dtype=self.dtype, name="pooling")(mean, train=train))
        joined = ConvNormAct(self.channels, 1, dtype=self.dtype, name="project")(*branches, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(joined)
