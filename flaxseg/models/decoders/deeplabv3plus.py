"""DeepLabV3+ (Chen et al. 2018, https://arxiv.org/abs/1802.02611) with any encoder that can be dilated."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, check_boolean, check_integer
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.aspp import ASPP, SeparableConvNormAct
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames, nested

SKIP_CHANNELS = 48
"""Channels that the feature at 1/4 of the image's size is projected to, so that the coarse features dominate."""


class DeepLabV3PlusDecoder(Decoder):
    """Atrous spatial pyramid pooling of the encoder's last feature, fused with the feature at 1/4.

    Attributes:
      decoder_channels: channels of every feature map in the decoder, except for the skip connection at 1/4.
      atrous_rates: dilation of the three 3x3 convolutions; the paper uses 6, 12 and 18 for an output stride of 16.
      separable: use depthwise-separable convolutions for these three; later convolutions are always separable.
      dropout: dropout rate after the convolution that fuses the branches.
      dtype: float32 or bfloat16, the type that is computed in.
    """

    decoder_channels: int = 256
    atrous_rates: tuple[int, ...] = (12, 24, 36)
    separable: bool = True
    dropout: float = 0.5
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        *nested(r"aspp\.0\.", "aspp", ASPP.torch_names),
        (r"aspp\.1\.0", r"refine/depthwise"),
        (r"aspp\.1\.1", r"refine/pointwise"),
        (r"aspp\.2", r"refine/norm"),
        (r"block1\.0", r"skip/conv"),
        (r"block1\.1", r"skip/norm"),
        (r"block2\.0\.0", r"fuse/depthwise"),
        (r"block2\.0\.1", r"fuse/pointwise"),
        (r"block2\.1", r"fuse/norm"),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)
        check_channels("atrous_rates", self.atrous_rates, count=3)
        check_boolean("separable", self.separable)
        DROPOUT_RATE.check("dropout", self.dropout)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H / 4, W / 4, decoder_channels]."""
        aspp = ASPP(self.decoder_channels, self.atrous_rates, self.separable, self.dropout, self.dtype, name="aspp")
        x = aspp(features[-1], train=train)
        x = SeparableConvNormAct(self.decoder_channels, dtype=self.dtype, name="refine")(x, train=train)
        skip = ConvNormAct(SKIP_CHANNELS, 1, dtype=self.dtype, name="skip")(features[2], train=train)
        x = ops.resize_bilinear(x, (skip.shape[1], skip.shape[2]), align_corners=True)
        joined = jnp.concatenate([x, skip], -1)
        return SeparableConvNormAct(self.decoder_channels, dtype=self.dtype, name="fuse")(joined, train=train)
