"""Atrous spatial pyramid pooling (Chen et al. 2017, https://arxiv.org/abs/1706.05587), a part of both DeepLabs."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, check_boolean, check_integer
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import Conv, ConvNormAct
from flaxseg.models.layers.normalization import norm
from flaxseg.models.pretrained.torch_names import TorchNames


class SeparableConvNormAct(nn.Module):
    """A depthwise-separable 3x3 convolution, batch normalization, ReLU.

    Attributes:
      features: number of output channels.
      dilation: dilation of the depthwise convolution.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    features: int
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H, W, features] of [B, H, W, C]."""
        width = x.shape[-1]
        options = {"use_bias": False, "dtype": self.dtype}
        x = Conv(width, 3, dilation=self.dilation, groups=width, **options, name="depthwise")(x)
        x = Conv(self.features, 1, **options, name="pointwise")(x)
        return nn.relu(norm("batch", self.features, train=train, dtype=self.dtype)(x))


class ASPP(nn.Module):
    """Parallel 1x1, dilated 3x3 and global-pooling branches, fused by a 1x1 convolution.

    Attributes:
      channels: channels of each branch and of the output.
      rates: dilation of the branches 1, 2, 3; branch 0 is the 1x1 convolution.
      separable: use depthwise-separable convolutions in the dilated branches.
      dropout: dropout rate of the output.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    channels: int
    rates: tuple[int, ...]
    separable: bool
    dropout: float
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
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
        """Returns features [B, H, W, channels] of [B, H, W, C]."""
        branches = [ConvNormAct(self.channels, 1, dtype=self.dtype, name="branch0")(x, train=train)]
        layer = SeparableConvNormAct if self.separable else ConvNormAct
        for number, rate in enumerate(self.rates, 1):
            branch = layer(self.channels, dilation=rate, dtype=self.dtype, name=f"branch{number}")
            branches.append(branch(x, train=train))
        mean = ops.adaptive_average_pool(x, 1)
        branches.append(ConvNormAct(self.channels, 1, dtype=self.dtype, name="pooling")(mean, train=train))
        joined = ConvNormAct(self.channels, 1, dtype=self.dtype, name="project")(*branches, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(joined)


class ASPPDecoder(Decoder):
    """Base class of decoders that begin with atrous spatial pyramid pooling, which `pyramid_pooling` returns.

    Attributes:
      decoder_channels: channels of every feature map in the decoder.
      atrous_rates: dilation of the three 3x3 convolutions; the paper uses 6, 12 and 18 for an output stride of 16.
      separable: use depthwise-separable convolutions for these three.
      dropout: dropout rate after the convolution that fuses the branches.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 256
    atrous_rates: tuple[int, ...] = (12, 24, 36)
    separable: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)
        check_channels("atrous_rates", self.atrous_rates, count=3)
        check_boolean("separable", self.separable)
        DROPOUT_RATE.check("dropout", self.dropout)

    def pyramid_pooling(self) -> ASPP:
        """Returns the pooling module, to be called in a compact method."""
        return ASPP(self.decoder_channels, self.atrous_rates, self.separable, self.dropout, self.dtype, name="aspp")
