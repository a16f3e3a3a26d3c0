"""The inverted residual block with squeeze-and-excitation of the later mobile networks."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.layers.attention import SqueezeExcitation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import Activation, identity


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation and linear 1x1 projection.

    Sandler et al. 2018, https://arxiv.org/abs/1801.04381. Parameters are named
    `{expand,depthwise,squeeze,project}/...`.

    Attributes:
      features: number of output channels.
      wide: number of inner channels; the expansion is omitted if the input has as many.
      kernel_size: kernel size of the depthwise convolution.
      stride: stride of the depthwise convolution.
      dilation: dilation of the depthwise convolution.
      squeezed: inner channels of squeeze-and-excitation; 0: there is none.
      is_fused: a convolution replaces expansion and depthwise convolution.
      padding: see `Conv`.
      activation: the function after each convolution but the last.
      squeeze_activation: the function of the inner channels of squeeze-and-excitation.
      gate: the function that maps to the weights of channels.
      epsilon: added to the variance of batch normalization.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    features: int
    wide: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    squeezed: int = 0
    is_fused: bool = False
    padding: str | Sequence[tuple[int, int]] = "SYMMETRIC"
    activation: Activation = nn.silu
    squeeze_activation: Activation = nn.silu
    gate: Activation = nn.sigmoid
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H / stride, W / stride, features] of [B, H, W, C]."""
        layer = functools.partial(ConvNormAct, activation=self.activation, epsilon=self.epsilon, dtype=self.dtype)
        spatial = functools.partial(layer, self.wide, self.kernel_size, self.stride, self.dilation)
        y = x
        if self.is_fused:
            y = spatial(padding=self.padding, name="expand")(y, train=train)
        else:
            if self.wide != x.shape[-1]:
                y = layer(self.wide, 1, name="expand")(y, train=train)
            y = spatial(groups=self.wide, padding=self.padding, name="depthwise")(y, train=train)
        if self.squeezed:
            squeeze = SqueezeExcitation(self.squeezed, self.squeeze_activation, self.gate, self.dtype, name="squeeze")
            y = squeeze(y)
        y = layer(self.features, 1, activation=identity, name="project")(y, train=train)
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y
