"""PSPNet (Zhao et al. 2017, https://arxiv.org/abs/1612.01105) with any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, check_boolean, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames

POOL_SIZES = (1, 2, 3, 6)
"""Side lengths of the grids that the last feature is average-pooled to."""


class PSPDecoder(Decoder):
    """Pyramid pooling: the last feature, average-pooled to grids of POOL_SIZES, projected, and fused with itself.

    By default the encoder stops at 1/8 of the image's size. The paper's encoder is dilated to it: `encoder="resnet50",
    encoder_depth=5, output_stride=8, auxiliary_head=True`.

    Attributes:
      decoder_channels: channels of the decoder's output.
      use_batchnorm: apply batch normalization in the decoder; the 1x1 grid never has one.
      dropout: spatial dropout rate: whole channels of the output are dropped.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 512
    use_batchnorm: bool = True
    dropout: float = 0.2
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"psp\.blocks\.(\d)\.pool\.1\.0", r"grid\1/conv"),
        (r"psp\.blocks\.(\d)\.pool\.1\.1", r"grid\1/norm"),
        (r"conv\.0", r"fuse/conv"),
        (r"conv\.1", r"fuse/norm"),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)
        check_boolean("use_batchnorm", self.use_batchnorm)
        DROPOUT_RATE.check("dropout", self.dropout)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, decoder_channels], at the size of the last feature."""
        x = features[-1]
        norm = "batch" if self.use_batchnorm else "none"
        width = x.shape[-1] // len(POOL_SIZES)
        joined = []
        for number, size in enumerate(POOL_SIZES):
            # With one value per image and channel, batch statistics would be meaningless.
            layer = ConvNormAct(width, 1, norm="none" if size == 1 else norm, dtype=self.dtype, name=f"grid{number}")
            grid = layer(ops.adaptive_average_pool(x, size), train=train)
            if size > 1:
                grid = ops.resize_bilinear(grid, (x.shape[1], x.shape[2]), align_corners=True)
            joined.append(grid)
        x = ConvNormAct(self.decoder_channels, 1, norm=norm, dtype=self.dtype, name="fuse")(*joined, x, train=train)
        return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
