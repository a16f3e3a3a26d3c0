"""Panoptic FPN's semantic branch (Kirillov et al. 2019, https://arxiv.org/abs/1901.02446) around any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import ConfigError
from flaxseg.models.arguments import check_choice, check_integer, check_rate
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import Conv

LEVELS = 4
"""Features that the pyramid is built of, the coarsest."""

GROUPS = 32
"""Of channels that are normalized together."""


def fpn(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    pyramid_channels: int = 256,
    segmentation_channels: int = 128,
    merge: str = "add",
    dropout: float = 0.2,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A feature pyramid of the encoder's four coarsest features; the maps of all its levels are merged at the finest.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      encoder_depth: how often the encoder halves the picture.
      pyramid_channels: channels of the pyramid's levels.
      segmentation_channels: channels of the maps made of the levels, a multiple of 32.
      merge: "add" for the sum of the four maps, "cat" to have them side by side.
      dropout: how often a channel of the merged maps is left out in training.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    check_integer("encoder_depth", encoder_depth, LEVELS - 1, 5)
    check_integer("pyramid_channels", pyramid_channels, 1)
    check_integer("segmentation_channels", segmentation_channels, GROUPS)
    if segmentation_channels % GROUPS:
        raise ConfigError(f"segmentation_channels = {segmentation_channels!r}: must be a multiple of {GROUPS}")
    check_choice("merge", merge, ("add", "cat"))
    check_rate("dropout", dropout)

    def decoder(module: nn.Module) -> FPNDecoder:
        if 0 in module.channels[-LEVELS:]:  # type: ignore[attr-defined]
            raise ConfigError(
                f"encoder_depth = {encoder_depth!r}: with encoder {encoder} it has to be 5, as the pyramid is built of "
                f"{LEVELS} features and this encoder has none at 1/2 of the picture"
            )
        return FPNDecoder(pyramid_channels, segmentation_channels, merge, float(dropout), dtype)

    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=decoder,
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        head_kernel_size=1,
        upsampling=2 ** (encoder_depth + 1 - LEVELS),
    )


class FPNDecoder(nn.Module):
    """The pyramid from the coarsest feature on, `lateral0`, and a map of each level, `level0_block{j}`."""

    pyramid_channels: int
    segmentation_channels: int
    merge: str = "add"
    dropout: float = 0.2
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        *((rf"p{5 - level}(?:\.skip_conv)?", f"lateral{level}") for level in range(LEVELS)),
        (r"seg_blocks\.(\d)\.block\.(\d)\.block\.0", r"level\1_block\2/conv"),
        (r"seg_blocks\.(\d)\.block\.(\d)\.block\.1", r"level\1_block\2/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, h, w, C] of the size of the finest feature used; C is the maps' channels, or four times that."""
        maps: list[jax.Array] = []
        pyramid = None
        for level, feature in enumerate(reversed(features[-LEVELS:])):
            lateral = Conv(self.pyramid_channels, 1, dtype=self.dtype, name=f"lateral{level}")(feature)
            size = lateral.shape[1], lateral.shape[2]
            pyramid = lateral if pyramid is None else ops.resize_nearest(pyramid, size) + lateral
            maps.append(self._map(pyramid, level))
        merged = sum(maps[1:], maps[0]) if self.merge == "add" else jnp.concatenate(maps, -1)
        return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(merged)

    def _map(self, x: jax.Array, level: int) -> jax.Array:
        """A map of a level, up-sampled to the size of the finest, which is the only one without a step of 2."""
        steps = LEVELS - 1 - level
        for number in range(max(steps, 1)):
            x = _Block(self.segmentation_channels, self.dtype, name=f"level{level}_block{number}")(x)
            if steps:
                x = ops.resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]), align_corners=True)
        return x


class _Block(nn.Module):
    """Convolution, GroupNorm, ReLU."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(self.width, use_bias=False, dtype=self.dtype, name="conv")(x)
        return nn.relu(nn.GroupNorm(GROUPS, epsilon=1e-5, dtype=self.dtype, name="norm")(x))
