"""The fully convolutional network of torchvision and MMSegmentation: dilated features and two convolutions.

After Long et al. 2015, https://arxiv.org/abs/1411.4038, whose network with skip connections is `fcn8s`.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.errors import DROPOUT_RATE, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import ConvNormAct


class FCNDecoder(Decoder):
    """A 3x3 convolution of the encoder's last feature, which the head follows; its parameters are named `reduce`.

    Attributes:
      decoder_channels: channels of the output; 0: a quarter of the last feature's.
      dropout: dropout rate of the output.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 0
    dropout: float = 0.1
    dtype: Any = jnp.float32

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 0)
        DROPOUT_RATE.check("dropout", self.dropout)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, D], at the size of the last feature."""
        channels = self.decoder_channels or max(features[-1].shape[-1] // 4, 1)
        x = ConvNormAct(channels, dtype=self.dtype, name="reduce")(features[-1], train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)
