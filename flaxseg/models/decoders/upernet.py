"""UPerNet (Xiao et al. 2018, https://arxiv.org/abs/1807.10221) around any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import check_integer
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import ConvNormAct

POOL_SIZES = (1, 2, 3, 6)
"""Cells along a side of the grids that the coarsest feature is averaged over."""

AUXILIARY_CHANNELS = 256


def upernet(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    decoder_channels: int = 256,
    auxiliary_weight: float = 0.0,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A UPerNet: pyramid pooling of the coarsest feature, a feature pyramid from it to 1/4 of the picture, all joined.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      encoder_depth: how often the encoder halves the picture.
      decoder_channels: channels of every map in the decoder.
      auxiliary_weight: what the training step multiplies the loss of a head on the last feature but one by; 0: there
        is none.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    check_integer("decoder_channels", decoder_channels, 1)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: UPerNetDecoder(decoder_channels, dtype=dtype),
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        auxiliary_weight=auxiliary_weight,
        auxiliary_channels=AUXILIARY_CHANNELS,
        head_kernel_size=1,
        upsampling=4,
    )


class UPerNetDecoder(nn.Module):
    """Pyramid pooling, and a feature pyramid of the features from 1/4 of the picture down.

    Of its parameters `feature_norm0` belongs to the feature at 1/4, `lateral0` and `smooth0` to the last but one.
    """

    channels: int
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"feature_norms\.(\d)", r"feature_norm\1"),
        (r"psp\.blocks\.(\d)\.1\.0", r"pooling/grid\1/conv"),
        (r"psp\.blocks\.(\d)\.1\.1", r"pooling/grid\1/norm"),
        (r"psp\.out_conv\.0", r"pooling/fuse/conv"),
        (r"psp\.out_conv\.1", r"pooling/fuse/norm"),
        (r"fpn_lateral_blocks\.(\d)\.conv_norm_relu\.0", r"lateral\1/conv"),
        (r"fpn_lateral_blocks\.(\d)\.conv_norm_relu\.1", r"lateral\1/norm"),
        (r"fpn_conv_blocks\.(\d)\.0", r"smooth\1/conv"),
        (r"fpn_conv_blocks\.(\d)\.1", r"smooth\1/norm"),
        (r"fusion_block\.0", r"fuse/conv"),
        (r"fusion_block\.1", r"fuse/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H / 4, W / 4, channels] of features that begin with a picture's of [B, H, W, C]."""
        used = [
            nn.LayerNorm(dtype=self.dtype, name=f"feature_norm{number}")(feature)
            for number, feature in enumerate(features[2:])
        ]
        x = PyramidPooling(self.channels, self.dtype, name="pooling")(used[-1], train=train)
        maps = [x]
        for number, feature in enumerate(reversed(used[:-1])):
            lateral = ConvNormAct(self.channels, 1, dtype=self.dtype, name=f"lateral{number}")(feature, train=train)
            x = lateral + ops.resize_bilinear(x, _size(lateral))
            maps.append(ConvNormAct(self.channels, dtype=self.dtype, name=f"smooth{number}")(x, train=train))
        joined = [ops.resize_bilinear(each, _size(used[0])) for each in reversed(maps)]
        return ConvNormAct(self.channels, dtype=self.dtype, name="fuse")(*joined, train=train)


class PyramidPooling(nn.Module):
    """Means over grids of POOL_SIZES cells a side, through a layer each, joined with what they are of."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, channels] of [B, H, W, C]."""
        joined = [x]
        for number, size in enumerate(POOL_SIZES):
            layer = ConvNormAct(self.channels, 1, dtype=self.dtype, name=f"grid{number}")
            joined.append(ops.resize_bilinear(layer(ops.adaptive_average_pool(x, size), train=train), _size(x)))
        return ConvNormAct(self.channels, dtype=self.dtype, name="fuse")(*joined, train=train)


def _size(x: jax.Array) -> tuple[int, int]:
    return x.shape[1], x.shape[2]
