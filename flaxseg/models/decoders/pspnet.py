"""PSPNet (Zhao et al. 2017, https://arxiv.org/abs/1612.01105) around any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import check_boolean, check_integer, check_rate
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames, check_output_stride
from flaxseg.models.layers.conv import ConvNormAct

OUTPUT_STRIDES = (8, 16, 32)

POOL_SIZES = (1, 2, 3, 6)
"""Cells along a side of the grids that the last feature is averaged over."""


def pspnet(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 3,
    output_stride: int = 32,
    decoder_channels: int = 512,
    use_batchnorm: bool = True,
    dropout: float = 0.2,
    auxiliary_weight: float = 0.0,
    auxiliary_channels: int = 256,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A PSPNet: means over grids from one cell to 6x6, joined with the encoder's last feature, up-sampled at once.

    By default the encoder stops at 1/8 of the picture. That of the paper is dilated to it: `encoder="resnet50",
    encoder_depth=5, output_stride=8, auxiliary_weight=0.4`.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      encoder_depth: how often the encoder halves the picture, or would, were it not dilated.
      output_stride: 8, 16 or 32: the features are at 1 / output_stride of the picture, or where `encoder_depth` ends.
      decoder_channels: channels of the map that the head gets.
      use_batchnorm: whether the decoder normalizes; the mean of the whole map it never does.
      dropout: dropout rate, of whole channels, before the head.
      auxiliary_weight: what the training step multiplies the loss of a head on the last feature but one by; 0: there
        is none.
      auxiliary_channels: inner channels of that head.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    check_integer("encoder_depth", encoder_depth, 3, 5)
    check_output_stride(output_stride, OUTPUT_STRIDES, encoder=encoder)
    check_integer("decoder_channels", decoder_channels, 1)
    check_boolean("use_batchnorm", use_batchnorm)
    check_rate("dropout", dropout)
    check_integer("auxiliary_channels", auxiliary_channels, 1)
    norm = "batch" if use_batchnorm else "none"
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: PSPDecoder(decoder_channels, norm, dropout, dtype=dtype),
        encoder_depth=encoder_depth,
        output_stride=output_stride,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        auxiliary_weight=auxiliary_weight,
        auxiliary_channels=auxiliary_channels,
        upsampling=min(output_stride, 2**encoder_depth),
    )


class PSPDecoder(nn.Module):
    """Means over grids of POOL_SIZES cells a side, through a layer each, joined with what they are of."""

    channels: int
    norm: str = "batch"
    dropout: float = 0.2
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"psp\.blocks\.(\d)\.pool\.1\.0", r"grid\1/conv"),
        (r"psp\.blocks\.(\d)\.pool\.1\.1", r"grid\1/norm"),
        (r"conv\.0", r"fuse/conv"),
        (r"conv\.1", r"fuse/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, h, w, channels], at the size of the last feature."""
        x = features[-1]
        width = x.shape[-1] // len(POOL_SIZES)
        joined = []
        for number, size in enumerate(POOL_SIZES):
            # Of one value for each picture and channel, batch statistics say nothing about the channel.
            layer = ConvNormAct(
                width, 1, norm="none" if size == 1 else self.norm, dtype=self.dtype, name=f"grid{number}"
            )
            grid = layer(ops.adaptive_average_pool(x, size), train=train)
            if size > 1:
                grid = ops.resize_bilinear(grid, (x.shape[1], x.shape[2]), align_corners=True)
            joined.append(grid)
        x = ConvNormAct(self.channels, 1, norm=self.norm, dtype=self.dtype, name="fuse")(*joined, x, train=train)
        return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
