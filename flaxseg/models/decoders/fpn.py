"""Feature pyramid network: Panoptic FPN's semantic branch (Kirillov et al. 2019, https://arxiv.org/abs/1901.02446)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, ArgumentError, check_choice, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import Conv
from flaxseg.models.pretrained.torch_names import TorchNames

LEVELS = 4
"""Number of features that the pyramid is built from: the coarsest ones."""

GROUPS = 32
"""Number of groups of the decoder's group normalization."""


class FPNDecoder(Decoder):
    """A feature pyramid of the encoder's four coarsest features, whose levels are merged at the finest.

    Parameters are named `lateral{i}` and `level{i}_block{j}`, with i = 0 at the coarsest level.

    Attributes:
      pyramid_channels: channels of the pyramid's levels.
      segmentation_channels: channels of the feature map that is computed from each level; a multiple of 32.
      merge: "add" sums the four feature maps, "cat" concatenates them.
      dropout: spatial dropout rate: whole channels of the merged feature map are dropped.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    pyramid_channels: int = 256
    segmentation_channels: int = 128
    merge: str = "add"
    dropout: float = 0.2
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        *((rf"p{5 - level}(?:\.skip_conv)?", f"lateral{level}") for level in range(LEVELS)),
        (r"seg_blocks\.(\d)\.block\.(\d)\.block\.0", r"level\1_block\2/conv"),
        (r"seg_blocks\.(\d)\.block\.(\d)\.block\.1", r"level\1_block\2/norm"),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options, and that the encoder has enough features."""
        depth = len(channels)
        check_integer("encoder_depth", depth, LEVELS - 1)
        if 0 in channels[-LEVELS:]:
            raise ArgumentError(
                "encoder_depth",
                depth,
                f"must be 5 with encoder {encoder}, as the pyramid is built from {LEVELS} features and this encoder "
                "has none at 1/2 of the image's size",
            )
        check_integer("pyramid_channels", self.pyramid_channels, 1)
        check_integer("segmentation_channels", self.segmentation_channels, GROUPS)
        if self.segmentation_channels % GROUPS:
            raise ArgumentError("segmentation_channels", self.segmentation_channels, f"must be a multiple of {GROUPS}")
        check_choice("merge", self.merge, ("add", "cat"))
        DROPOUT_RATE.check("dropout", self.dropout)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, C] at the size of the finest feature used; C is segmentation_channels, or 4 times that."""
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
        """Returns a level's feature map at the size of the finest level."""
        doublings = LEVELS - 1 - level
        for number in range(max(doublings, 1)):
            x = _Block(self.segmentation_channels, self.dtype, name=f"level{level}_block{number}")(x)
            if doublings:
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
