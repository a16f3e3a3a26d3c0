"""DPT (Ranftl et al. 2021, https://arxiv.org/abs/2103.13413) with a vision transformer or any other encoder."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, ArgumentError, check_boolean, check_choice, check_integer
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.models.layers.conv import Conv, ConvNormAct, ConvTranspose
from flaxseg.models.layers.dense import Dense
from flaxseg.models.layers.normalization import identity

READOUTS = ("project", "add", "ignore")
"""What becomes of the class token: it is joined to each patch and projected, added to each patch, or left out."""

_STAGES = 4


class DPTDecoder(Decoder):
    """Reassembles features of four blocks of a vision transformer at 1/4 to 1/32, and fuses them from coarse to fine.

    Features of other encoders, at 1/4 to 1/32 of the image's size, are fused as they are. Position embeddings are
    resized bilinearly, as in the paper. Parameters are named `readout{i}`, `project{i}`, `resize{i}` and `neck{i}`,
    with i = 0 for the finest feature; `fusion{i}_{skip,unit,project}`, with i = 0 for the coarsest; and `refine`.

    Attributes:
      feature_blocks: numbers of the four blocks, from 1; (): evenly spaced ones, the last of which is the last block.
      readout: what becomes of the class token: "project", "add" or "ignore".
      neck_channels: channels of the four reassembled features of a vision transformer, from fine to coarse.
      fusion_channels: channels of every later feature map.
      batch_norm: normalize by batch statistics in the fusion, as for segmentation in the paper.
      dropout: dropout rate of the output.
      patch_features: the features are those of the patches of a vision transformer.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    feature_blocks: tuple[int, ...] = ()
    readout: str = "project"
    neck_channels: tuple[int, ...] = (96, 192, 384, 768)
    fusion_channels: int = 256
    batch_norm: bool = True
    dropout: float = 0.1
    patch_features: bool = False
    dtype: Any = jnp.float32

    takes_patches = True

    def adapt(self, encoder: VisionTransformer) -> VisionTransformer:
        """Returns the vision transformer with the features of four blocks, beside the class token if it is used."""
        blocks = self.feature_blocks
        if blocks:
            check_channels("feature_blocks", blocks, count=_STAGES)
            if sorted(set(blocks)) != list(blocks) or blocks[-1] > encoder.blocks:
                raise ArgumentError(
                    "feature_blocks", blocks, f"must be in ascending order, and at most {encoder.blocks}"
                )
        return dataclasses.replace(
            encoder,
            feature_blocks=blocks,
            normalize=False,
            class_features=self.readout != "ignore",
            interpolation="bilinear",
        )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks that the options are in range, and that they fit the encoder."""
        check_choice("readout", self.readout, READOUTS)
        check_channels("neck_channels", self.neck_channels, count=_STAGES)
        check_integer("fusion_channels", self.fusion_channels, 1)
        check_boolean("batch_norm", self.batch_norm)
        DROPOUT_RATE.check("dropout", self.dropout)
        if self.feature_blocks and not self.patch_features:
            raise ArgumentError(
                "feature_blocks", self.feature_blocks, f"encoder {encoder} is no vision transformer; leave it out"
            )
        if len(channels) != _STAGES + (not self.patch_features):
            raise ArgumentError(
                "encoder_depth", len(channels) + self.patch_features, "this architecture needs 5, for four features"
            )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, fusion_channels], twice as large as the finest of the fused features."""
        if self.patch_features:
            maps = [self._reassembled(feature, number) for number, feature in enumerate(features[1:])]
        else:
            maps = list(features[2:])
        unit = functools.partial(_ResidualUnit, self.batch_norm, self.dtype)
        fused = maps[-1]
        for number, x in enumerate(reversed(maps)):
            neck = Conv(self.fusion_channels, use_bias=False, dtype=self.dtype, name=f"neck{_STAGES - 1 - number}")
            x = neck(x)
            if number:
                x = ops.resize_bilinear(x, (fused.shape[1], fused.shape[2]))
                x = fused + unit(name=f"fusion{number}_skip")(x, train=train)
            x = unit(name=f"fusion{number}_unit")(x, train=train)
            # A 1x1 convolution and resizing commute, and there are four times fewer pixels before.
            x = Conv(self.fusion_channels, 1, dtype=self.dtype, name=f"fusion{number}_project")(x)
            fused = ops.resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]), align_corners=True)
        refined = ConvNormAct(self.fusion_channels, dtype=self.dtype, name="refine")(fused, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(refined)

    def _reassembled(self, x: jax.Array, number: int) -> jax.Array:
        """Returns the features of a block [B, h, w, C] or [B, h, w, 2 C], at 4, 2, 1 or 1/2 times their size."""
        if self.readout == "add":
            x = jnp.add(*jnp.split(x, 2, -1))
        elif self.readout == "project":
            readout = Dense(x.shape[-1] // 2, dtype=self.dtype, name=f"readout{number}")
            x = ops.gelu(readout(x))
        channels = self.neck_channels[number]
        x = Conv(channels, 1, dtype=self.dtype, name=f"project{number}")(x)
        name = f"resize{number}"
        if number < 2:
            factor = (4, 2)[number]
            return ConvTranspose(channels, factor, factor, dtype=self.dtype, name=name)(x)
        return x if number == 2 else Conv(channels, 3, 2, padding="SYMMETRIC", dtype=self.dtype, name=name)(x)


class _ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, and each normalized with `batch_norm`; residual."""

    batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H, W, C] of [B, H, W, C]."""
        kind = "batch" if self.batch_norm else "none"
        layer = functools.partial(ConvNormAct, x.shape[-1], norm=kind, activation=identity, dtype=self.dtype)
        y = layer(name="conv1")(nn.relu(x), train=train)
        return x + layer(name="conv2")(nn.relu(y), train=train)
