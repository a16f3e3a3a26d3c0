"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import identity
from flaxseg.models.pretrained.torch_names import TorchNames

_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels and number of blocks of each stage, and the stride of its first block."""

_BLOCKS = sum(blocks for _, blocks, _ in _STAGES)


class MobileNetV2(nn.Module):
    """MobileNetV2. Parameters are named `stem/...`, `block{i}/{expand,depthwise,project}/...`, `last/...`.

    Attributes:
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
      expanded: take features inside the strided blocks, where channels are expanded; the coarsest feature is then the
        last block's projection before its normalization. Only with depth 5.
    """

    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32
    expanded: bool = False

    torch_names: ClassVar[TorchNames] = (
        (r"features\.0\.0", "stem/conv"),
        (r"features\.0\.1", "stem/norm"),
        (r"features\.1\.conv\.0\.0", "block0/depthwise/conv"),
        (r"features\.1\.conv\.0\.1", "block0/depthwise/norm"),
        (r"features\.1\.conv\.1", "block0/project/conv"),
        (r"features\.1\.conv\.2", "block0/project/norm"),
        (rf"features\.{_BLOCKS + 1}\.0", "last/conv"),
        (rf"features\.{_BLOCKS + 1}\.1", "last/norm"),
        *(
            (rf"features\.{number + 1}\.conv\.{theirs}", f"block{number}/{ours}")
            for number in range(1, _BLOCKS)
            for theirs, ours in (
                (r"0\.0", "expand/conv"),
                (r"0\.1", "expand/norm"),
                (r"1\.0", "depthwise/conv"),
                (r"1\.1", "depthwise/norm"),
                (r"2", "project/conv"),
                (r"3", "project/norm"),
            )
        ),
        (r"classifier\.1", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return ((96, 144, 192, 576, 320) if self.expanded else (16, 24, 32, 96, 1280))[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        layer = functools.partial(ConvNormAct, activation=nn.relu6, dtype=self.dtype)
        features = [x]
        x = layer(32, 3, 2, padding="SYMMETRIC", name="stem")(x, train=train)
        reduction, number = 2, 0
        for width, count, stage_stride in _STAGES:
            reduction *= stage_stride
            if reduction > 2**self.depth:
                break
            stride, dilation = stage_dilation(reduction, self.output_stride)
            for index in range(count):
                reduces = stage_stride == 2 and index == 0
                block = _Block(
                    width,
                    stride if reduces else 1,
                    dilation,
                    expansion=6 if number else 1,
                    norm="none" if self.expanded and number == _BLOCKS - 1 else "batch",
                    dtype=self.dtype,
                    name=f"block{number}",
                )
                inner, y = block(x, train=train)
                if reduces:
                    features.append(inner if self.expanded else x)
                x, number = y, number + 1
        if self.depth == 5 and not self.expanded:
            x = layer(1280, 1, name="last")(x, train=train)
        return [*features, x]


class _Block(nn.Module):
    """An inverted residual: 1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection.

    Attributes:
      features: number of output channels.
      stride: stride of the depthwise convolution.
      dilation: dilation of the depthwise convolution.
      expansion: factor by which the channels are expanded.
      norm: normalization of the projection: "batch" or "none".
      dtype: float32 or bfloat16, the data type of the computation.
    """

    features: int
    stride: int
    dilation: int
    expansion: int
    norm: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns the expanded features, and the block's output."""
        layer = functools.partial(ConvNormAct, use_bias=False, activation=nn.relu6, dtype=self.dtype)
        inner, wide = x, self.expansion * x.shape[-1]
        if self.expansion > 1:
            inner = layer(wide, 1, name="expand")(x, train=train)
        y = layer(wide, 3, self.stride, self.dilation, wide, padding="SYMMETRIC", name="depthwise")(inner, train=train)
        y = layer(self.features, 1, norm=self.norm, activation=identity, name="project")(y, train=train)
        return inner, x + y if self.stride == 1 and x.shape[-1] == self.features else y


ENCODERS: dict[str, Encoder] = {
    "mobilenet_v2": Encoder(
        MobileNetV2, HubFile("smp-hub/mobilenet_v2.imagenet", "e67aa804e17f7b404b629127eabbd224c4e0690b")
    )
}
"""The one width that has public weights."""
