"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile, Renames, stage_dilation
from flaxseg.models.layers.conv import ConvNormAct, apply_block
from flaxseg.models.layers.normalization import identity

_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels and blocks of each stage, and the step of its first block."""

_BLOCKS = sum(blocks for _, blocks, _ in _STAGES)


class MobileNetV2(nn.Module):
    """Features at 1, 1/2, ... of the picture; parameters are named `block{i}/{expand,depthwise,project}`."""

    depth: int = 5
    output_stride: int = 32
    remat: bool = False
    dtype: Any = jnp.float32
    expanded: bool = False
    """Whether features are taken inside the blocks that halve the picture, where the channels are expanded, and the
    coarsest is the last block's projection before its normalization. For depth 5."""

    torch_names: ClassVar[Renames] = (
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
        """Of the features at 1/2, 1/4, ..."""
        return ((96, 144, 192, 576, 320) if self.expanded else (16, 24, 32, 96, 1280))[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """`depth + 1` features of a picture, from the picture itself down."""
        layer = functools.partial(ConvNormAct, activation=nn.relu6, dtype=self.dtype)
        features = [x]
        x = layer(32, 3, 2, padding="SYMMETRIC", name="stem")(x, train=train)
        stride, number = 2, 0
        for width, count, step in _STAGES:
            stride *= step
            if stride > 2**self.depth:
                break
            halving, dilation = stage_dilation(stride, self.output_stride)
            for index in range(count):
                enters = step == 2 and index == 0
                block = _Block(
                    width,
                    halving if enters else 1,
                    dilation,
                    expansion=6 if number else 1,
                    norm="none" if self.expanded and number == _BLOCKS - 1 else "batch",
                    dtype=self.dtype,
                    name=f"block{number}",
                )
                inner, y = apply_block(block, x, train=train, remat=self.remat)
                if enters:
                    features.append(inner if self.expanded else x)
                x, number = y, number + 1
        if self.depth == 5 and not self.expanded:
            x = layer(1280, 1, name="last")(x, train=train)
        return [*features, x]


class _Block(nn.Module):
    """A 1x1 convolution to more channels, a 3x3 of each channel by itself, and a 1x1 without activation."""

    features: int
    step: int
    dilation: int
    expansion: int
    norm: str
    """Of the last convolution."""
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """The expanded channels, and what the block gives."""
        layer = functools.partial(ConvNormAct, use_bias=False, activation=nn.relu6, dtype=self.dtype)
        inner, wide = x, self.expansion * x.shape[-1]
        if self.expansion > 1:
            inner = layer(wide, 1, name="expand")(x, train=train)
        y = layer(wide, 3, self.step, self.dilation, wide, padding="SYMMETRIC", name="depthwise")(inner, train=train)
        y = layer(self.features, 1, norm=self.norm, activation=identity, name="project")(y, train=train)
        return inner, x + y if self.step == 1 and x.shape[-1] == self.features else y


ENCODERS: dict[str, Encoder] = {
    "mobilenet_v2": Encoder(
        MobileNetV2, HubFile("smp-hub/mobilenet_v2.imagenet", "e67aa804e17f7b404b629127eabbd224c4e0690b")
    )
}
"""The one width that there are public weights of."""
