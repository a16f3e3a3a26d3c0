"""ResNeSt (Zhang et al. 2020, https://arxiv.org/abs/2004.08955)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.conv import Conv, ConvNormAct
from flaxseg.models.layers.normalization import identity
from flaxseg.models.pretrained.torch_names import TorchNames

_RADIX = 2
"""Number of splits of each group, between which the attention chooses."""


class ResNeSt(nn.Module):
    """ResNeSt with a stem of three convolutions and average pooling before strided convolutions.

    Parameters are named `stem{k}/...`, `layer{i}_block{j}/{conv1,split,reduce,expand,conv3,downsample}/...`.

    Attributes:
      blocks: number of blocks of each layer.
      stem_width: channels of the first two convolutions.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    blocks: tuple[int, int, int, int]
    stem_width: int = 32
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"conv1\.0", "stem1/conv"),
        (r"conv1\.1", "stem1/norm"),
        (r"conv1\.3", "stem2/conv"),
        (r"conv1\.4", "stem2/norm"),
        (r"conv1\.6", "stem3/conv"),
        (r"bn1", "stem3/norm"),
        (r"layer(\d)\.(\d+)\.conv([13])", r"layer\1_block\2/conv\3/conv"),
        (r"layer(\d)\.(\d+)\.bn([13])", r"layer\1_block\2/conv\3/norm"),
        (r"layer(\d)\.(\d+)\.conv2\.conv", r"layer\1_block\2/split/conv"),
        (r"layer(\d)\.(\d+)\.conv2\.bn0", r"layer\1_block\2/split/norm"),
        (r"layer(\d)\.(\d+)\.conv2\.fc1", r"layer\1_block\2/reduce/conv"),
        (r"layer(\d)\.(\d+)\.conv2\.bn1", r"layer\1_block\2/reduce/norm"),
        (r"layer(\d)\.(\d+)\.conv2\.fc2", r"layer\1_block\2/expand"),
        (r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_block\2/downsample/conv"),
        (r"layer(\d)\.(\d+)\.downsample\.2", r"layer\1_block\2/downsample/norm"),
        (r"fc", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (2 * self.stem_width, *(256 * 2**i for i in range(4)))[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features, layer = [x], functools.partial(ConvNormAct, padding="SYMMETRIC", dtype=self.dtype)
        x = layer(self.stem_width, 3, 2, name="stem1")(x, train=train)
        x = layer(self.stem_width, 3, name="stem2")(x, train=train)
        x = layer(2 * self.stem_width, 3, name="stem3")(x, train=train)
        features.append(x)
        x = ops.max_pool(x, 3, stride=2, padding=1)
        for number in range(1, self.depth):
            # The max pooling replaces the stride of the first layer.
            stride, dilation = (1, 1) if number == 1 else stage_dilation(2 ** (number + 1), self.output_stride)
            for index in range(self.blocks[number - 1]):
                first = index == 0
                block = _Block(
                    64 * 2 ** (number - 1),
                    stride if first else 1,
                    # As in timm, the first block of a layer keeps the dilation of the previous layer.
                    max(dilation // 2, 1) if first else dilation,
                    dilation > 1,
                    self.dtype,
                    name=f"layer{number}_block{index}",
                )
                x = block(x, train=train)
            features.append(x)
        return features


class _Block(nn.Module):
    """A bottleneck with split attention, whose strides are those of average poolings.

    Attributes:
      features: number of inner channels, a quarter of the output's.
      stride: stride of the block.
      dilation: dilation of the 3x3 convolution.
      is_dilated: the block's layer is dilated instead of strided.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    features: int
    stride: int
    dilation: int
    is_dilated: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        layer = functools.partial(ConvNormAct, padding="SYMMETRIC", dtype=self.dtype)
        out = 4 * self.features
        y = layer(self.features, 1, name="conv1")(x, train=train)
        y = layer(_RADIX * self.features, 3, 1, self.dilation, _RADIX, name="split")(y, train=train)
        y = self._attend(y, train)
        if self.stride > 1:
            y = ops.average_pool(y, 3, stride=self.stride, padding=1)
        y = layer(out, 1, activation=identity, name="conv3")(y, train=train)
        if self.stride > 1 or x.shape[-1] != out:
            x = self._pooled(x)
            x = layer(out, 1, activation=identity, name="downsample")(x, train=train)
        return nn.relu(x + y)

    def _attend(self, y: jax.Array, train: bool) -> jax.Array:
        """Returns the sum of the splits of [B, H, W, radix * C], weighted per channel by a softmax over the splits."""
        splits = y.reshape(*y.shape[:3], _RADIX, self.features)
        pooled = splits.sum(3).mean((1, 2), keepdims=True)
        inner = max(32, self.features * _RADIX // 4)
        pooled = ConvNormAct(inner, 1, use_bias=True, dtype=self.dtype, name="reduce")(pooled, train=train)
        scores = Conv(_RADIX * self.features, 1, dtype=self.dtype, name="expand")(pooled)
        weights = nn.softmax(scores.reshape(*scores.shape[:3], _RADIX, self.features), axis=3)
        return (splits * weights).sum(3)

    def _pooled(self, x: jax.Array) -> jax.Array:
        """Returns the input of the residual connection's convolution: means of 2x2 pixels from layer 2 on."""
        if self.stride > 1:
            return ops.average_pool(x)
        return ops.average_pool(x, stride=1, padding=(0, 1)) if self.is_dilated else x


ENCODERS: dict[str, Encoder] = {
    "resnest50d": Encoder(
        functools.partial(ResNeSt, (3, 4, 6, 3)), HubFile("timm/resnest50d.in1k", "main", license="apache-2.0")
    )
}
"""Blocks of each layer."""
