"""RegNetY (Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.attention import SqueezeExcitation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import identity
from flaxseg.models.pretrained.torch_names import TorchNames

_STEM_WIDTH = 32


class RegNet(nn.Module):
    """RegNetY. Parameters are named `stem/...`, `stage{i}_block{j}/{conv{k},squeeze,downsample}/...`.

    Attributes:
      blocks: number of blocks of each stage.
      widths: channels of each stage.
      group_width: channels of each group of the 3x3 convolutions.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    group_width: int
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"stem\.conv", "stem/conv"),
        (r"stem\.bn", "stem/norm"),
        (r"s(\d)\.b(\d+)\.(conv\d|downsample)\.conv", r"stage\1_block\2/\3/conv"),
        (r"s(\d)\.b(\d+)\.(conv\d|downsample)\.bn", r"stage\1_block\2/\3/norm"),
        (r"s(\d)\.b(\d+)\.se\.fc1", r"stage\1_block\2/squeeze/reduce"),
        (r"s(\d)\.b(\d+)\.se\.fc2", r"stage\1_block\2/squeeze/expand"),
        (r"head\.fc", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (_STEM_WIDTH, *self.widths)[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x]
        x = ConvNormAct(_STEM_WIDTH, 3, 2, padding="SYMMETRIC", dtype=self.dtype, name="stem")(x, train=train)
        features.append(x)
        for stage in range(1, self.depth):
            stride, dilation = stage_dilation(2 ** (stage + 1), self.output_stride)
            for number in range(1, self.blocks[stage - 1] + 1):
                first = number == 1
                block = _Block(
                    self.widths[stage - 1],
                    stride if first else 1,
                    # As in timm, the first block of a stage keeps the dilation of the previous stage.
                    max(dilation // 2, 1) if first else dilation,
                    self.group_width,
                    self.dtype,
                    name=f"stage{stage}_block{number}",
                )
                x = block(x, train=train)
            features.append(x)
        return features


class _Block(nn.Module):
    """A residual block of constant width, whose 3x3 convolution is in groups and followed by squeeze-and-excitation."""

    features: int
    stride: int
    dilation: int
    group_width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        layer = functools.partial(ConvNormAct, self.features, padding="SYMMETRIC", dtype=self.dtype)
        groups = self.features // self.group_width
        y = layer(1, name="conv1")(x, train=train)
        y = layer(3, self.stride, self.dilation, groups, name="conv2")(y, train=train)
        # A quarter of the block's input channels.
        y = SqueezeExcitation(round(x.shape[-1] / 4), dtype=self.dtype, name="squeeze")(y)
        y = layer(1, activation=identity, name="conv3")(y, train=train)
        if self.stride > 1 or x.shape[-1] != self.features:
            x = layer(1, self.stride, activation=identity, name="downsample")(x, train=train)
        return nn.relu(x + y)


ENCODERS: dict[str, Encoder] = {
    name: Encoder(
        functools.partial(RegNet, blocks, widths, 24), HubFile(f"timm/{name}.{weights}", "main", license=license)
    )
    for name, blocks, widths, weights, license in (
        ("regnety_016", (2, 6, 17, 2), (48, 120, 336, 888), "tv2_in1k", "bsd-3-clause"),
        ("regnety_032", (2, 5, 13, 1), (72, 216, 576, 1512), "ra_in1k", "apache-2.0"),
    )
}
"""Blocks and channels of each stage, the tag of timm's default weights, and their license."""
