"""DeepLabV3 (Chen et al. 2017, https://arxiv.org/abs/1706.05587) with any encoder that can be dilated."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.errors import DROPOUT_RATE, check_boolean, check_integer
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.aspp import ASPP
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames, nested


class DeepLabV3Decoder(Decoder):
    """Atrous spatial pyramid pooling of the encoder's last feature, and a 3x3 convolution.

    Attributes:
      decoder_channels: channels of every feature map in the decoder.
      atrous_rates: dilation of the three 3x3 convolutions; the paper uses 6, 12 and 18 for an output stride of 16.
      separable: use depthwise-separable convolutions for these three.
      dropout: dropout rate after the convolution that fuses the branches.
      dtype: float32 or bfloat16, the type that is computed in.
    """

    decoder_channels: int = 256
    atrous_rates: tuple[int, ...] = (12, 24, 36)
    separable: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        *nested(r"aspp\.", "aspp", ASPP.torch_names),
        (r"conv", r"refine/conv"),
        (r"bn", r"refine/norm"),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)
        check_channels("atrous_rates", self.atrous_rates, count=3)
        check_boolean("separable", self.separable)
        DROPOUT_RATE.check("dropout", self.dropout)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, decoder_channels], at the size of the last feature."""
        aspp = ASPP(self.decoder_channels, self.atrous_rates, self.separable, self.dropout, self.dtype, name="aspp")
        refine = ConvNormAct(self.decoder_channels, dtype=self.dtype, name="refine")
        return refine(aspp(features[-1], train=train), train=train)
