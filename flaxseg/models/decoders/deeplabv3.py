"""DeepLabV3 (Chen et al. 2017, https://arxiv.org/abs/1706.05587) with any encoder that can be dilated."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax

from flaxseg.models.decoders.aspp import ASPP, ASPPDecoder
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames, nested


class DeepLabV3Decoder(ASPPDecoder):
    """Atrous spatial pyramid pooling of the encoder's last feature, and a 3x3 convolution; see `ASPPDecoder`."""

    torch_names: ClassVar[TorchNames] = (
        *nested(r"aspp\.", "aspp", ASPP.torch_names),
        (r"conv", r"refine/conv"),
        (r"bn", r"refine/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, decoder_channels], at the size of the last feature."""
        x = self.pyramid_pooling()(features[-1], train=train)
        return ConvNormAct(self.decoder_channels, dtype=self.dtype, name="refine")(x, train=train)
