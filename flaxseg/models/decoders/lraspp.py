"""Lite R-ASPP (Howard et al. 2019, https://arxiv.org/abs/1905.02244), the decoder of MobileNetV3, with any encoder."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import Conv, ConvNormAct


class LRASPPDecoder(Decoder):
    """The last feature, weighted by a function of its mean, beside the feature at 1/8 of the image's size.

    As in torchvision, the mean is that of the whole feature map, and the head adds up the logits of both features.
    Parameters are named `reduce` and `gate`.

    Attributes:
      decoder_channels: channels that the last feature is projected to.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 128
    dtype: Any = jnp.float32

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H / 8, W / 8, C + decoder_channels], where C is that of the feature at 1/8."""
        low, high = features[3], features[-1]
        x = ConvNormAct(self.decoder_channels, 1, dtype=self.dtype, name="reduce")(high, train=train)
        mean = ops.adaptive_average_pool(high, 1)
        gate = Conv(self.decoder_channels, 1, use_bias=False, dtype=self.dtype, name="gate")(mean)
        x = ops.resize_bilinear(x * nn.sigmoid(gate), (low.shape[1], low.shape[2]))
        return jnp.concatenate([low, x], -1)
