"""Encoders with few layers and channels, with which networks compile quickly."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, stage_dilation
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames


class SmallEncoder(nn.Module):
    """One 3x3 convolution for each feature. See `Encoder` for the attributes."""

    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = ((r"layer(\d)\.0", r"layer\1/conv"), (r"layer(\d)\.1", r"layer\1/norm"))

    @property
    def channels(self) -> tuple[int, ...]:
        return (4, 6, 8, 10, 12)[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        features = [x]
        for level, channels in enumerate(self.channels, 1):
            stride, dilation = stage_dilation(2**level, self.output_stride)
            layer = ConvNormAct(
                channels, 3, stride, dilation, padding="SYMMETRIC", dtype=self.dtype, name=f"layer{level}"
            )
            features.append(layer(features[-1], train=train))
        return features


SMALL_ENCODER = Encoder(SmallEncoder, pretrained=None)


def _transformer(*, depth: int, output_stride: int, dtype: Any) -> VisionTransformer:
    del output_stride
    options = {"grid": 3, "registers": 1, "class_position": False, "layer_scale": 1.0}
    return VisionTransformer(2, 8, 2, 4, depth=depth, dtype=dtype, **options)


SMALL_TRANSFORMER = Encoder(_transformer, pretrained=None, patch=4)
"""A vision transformer with two blocks of eight channels and patches of 4x4 pixels."""
