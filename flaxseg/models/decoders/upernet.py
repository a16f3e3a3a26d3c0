"""UPerNet (Xiao et al. 2018, https://arxiv.org/abs/1807.10221) with any encoder."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import POSITIVE, check_boolean, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames

POOL_SIZES = (1, 2, 3, 6)
"""Side lengths of the grids that the coarsest feature is average-pooled to."""


class UPerNetDecoder(Decoder):
    """Pyramid pooling of the coarsest feature, a feature pyramid up to 1/4 of the image's size, and their fusion.

    Parameters are named `feature_norm{i}`, with i = 0 at 1/4, and `lateral{i}` and `smooth{i}`, with i = 0 at the
    second-to-last feature.

    Attributes:
      decoder_channels: channels of every feature map in the decoder.
      normalize_features: apply layer normalization to the encoder's features first.
      feature_epsilon: added to the variance in this layer normalization.
      auxiliary_head: also return the normalized second-to-last feature of the encoder.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 256
    normalize_features: bool = True
    feature_epsilon: float = 1e-6
    auxiliary_head: bool = False
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
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

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)
        check_boolean("normalize_features", self.normalize_features)
        POSITIVE.check("feature_epsilon", self.feature_epsilon)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> Any:
        """Returns [B, H / 4, W / 4, decoder_channels]; see `Decoder` for auxiliary heads."""
        used = list(features[2:])
        if self.normalize_features:
            norm = functools.partial(nn.LayerNorm, epsilon=self.feature_epsilon, dtype=self.dtype)
            used = [norm(name=f"feature_norm{number}")(feature) for number, feature in enumerate(used)]
        x = PyramidPooling(self.decoder_channels, self.dtype, name="pooling")(used[-1], train=train)
        maps = [x]
        for number, feature in enumerate(reversed(used[:-1])):
            project = ConvNormAct(self.decoder_channels, 1, dtype=self.dtype, name=f"lateral{number}")
            lateral = project(feature, train=train)
            x = lateral + ops.resize_bilinear(x, _size(lateral))
            maps.append(ConvNormAct(self.decoder_channels, dtype=self.dtype, name=f"smooth{number}")(x, train=train))
        joined = [ops.resize_bilinear(each, _size(used[0])) for each in reversed(maps)]
        x = ConvNormAct(self.decoder_channels, dtype=self.dtype, name="fuse")(*joined, train=train)
        return (x, used[-2]) if self.auxiliary_head else x


class PyramidPooling(nn.Module):
    """A feature map, average-pooled to grids of POOL_SIZES, projected, and fused with itself."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H, W, channels] of [B, H, W, C]."""
        joined = [x]
        for number, size in enumerate(POOL_SIZES):
            layer = ConvNormAct(self.channels, 1, dtype=self.dtype, name=f"grid{number}")
            joined.append(ops.resize_bilinear(layer(ops.adaptive_average_pool(x, size), train=train), _size(x)))
        return ConvNormAct(self.channels, dtype=self.dtype, name="fuse")(*joined, train=train)


def _size(x: jax.Array) -> tuple[int, int]:
    return x.shape[1], x.shape[2]
