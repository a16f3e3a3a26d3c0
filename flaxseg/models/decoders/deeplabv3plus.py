"""DeepLabV3+ (Chen et al. 2018, https://arxiv.org/abs/1802.02611) with any encoder that can be dilated."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.decoders.aspp import ASPP, ASPPDecoder, SeparableConvNormAct
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames, nested

SKIP_CHANNELS = 48
"""Channels that the feature at 1/4 of the image's size is projected to, so that the coarse features dominate."""


class DeepLabV3PlusDecoder(ASPPDecoder):
    """Atrous spatial pyramid pooling of the encoder's last feature, fused with the feature at 1/4; see `ASPPDecoder`.

    Attributes:
      decoder_channels: channels of every feature map in the decoder, except for the skip connection at 1/4.
      separable: use depthwise-separable convolutions for these three; later convolutions are always separable.
    """

    separable: bool = True

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

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H / 4, W / 4, decoder_channels]."""
        x = self.pyramid_pooling()(features[-1], train=train)
        x = SeparableConvNormAct(self.decoder_channels, dtype=self.dtype, name="refine")(x, train=train)
        skip = ConvNormAct(SKIP_CHANNELS, 1, dtype=self.dtype, name="skip")(features[2], train=train)
        x = ops.resize_bilinear(x, (skip.shape[1], skip.shape[2]), align_corners=True)
        joined = jnp.concatenate([x, skip], -1)
        return SeparableConvNormAct(self.decoder_channels, dtype=self.dtype, name="fuse")(joined, train=train)
