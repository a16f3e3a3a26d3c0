"""ResNet (He et al. 2015, https://arxiv.org/abs/1512.03385), ResNeXt (Xie et al. 2016, https://arxiv.org/abs/1611.05431)
and SE-ResNeXt (Hu et al. 2017, https://arxiv.org/abs/1709.01507)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile, stage_dilation
from flaxseg.models.layers.attention import SqueezeExcitation
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.layers.normalization import identity
from flaxseg.models.pretrained.torch_names import TorchNames


class ResNet(nn.Module):
    """ResNet or ResNeXt. Parameters are named `stem/...`, `layer{i}_block{j}/{conv{k},squeeze,downsample}/...`.

    Attributes:
      blocks: number of blocks of each layer.
      bottleneck: use bottleneck blocks instead of basic ones.
      groups: number of groups of the 3x3 convolutions.
      width: inner channels of a bottleneck, all groups together, for each 64 channels of the layer.
      squeeze: squeeze-and-excitation at the end of each block.
      pads_end: pad the max pooling at the bottom and right only, as Caffe does, and not on all sides.
      dilates_late: where a layer is dilated instead of strided, its first block keeps the dilation of the previous
        layer, as in timm.
      depth: number of times that the encoder halves the image (or would, without dilation).
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    width: int = 64
    squeeze: bool = False
    pads_end: bool = False
    dilates_late: bool = False
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"(?:layer0\.)?conv1", r"stem/conv"),
        (r"(?:layer0\.)?bn1", r"stem/norm"),
        (r"layer(\d)\.(\d+)\.conv(\d)", r"layer\1_block\2/conv\3/conv"),
        (r"layer(\d)\.(\d+)\.bn(\d)", r"layer\1_block\2/conv\3/norm"),
        (r"layer(\d)\.(\d+)\.downsample\.0", r"layer\1_block\2/downsample/conv"),
        (r"layer(\d)\.(\d+)\.downsample\.1", r"layer\1_block\2/downsample/norm"),
        (r"layer(\d)\.(\d+)\.se(?:_module)?\.fc1", r"layer\1_block\2/squeeze/reduce"),
        (r"layer(\d)\.(\d+)\.se(?:_module)?\.fc2", r"layer\1_block\2/squeeze/expand"),
        (r"fc|last_linear", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        grown = 4 if self.bottleneck else 1
        return (64, *(64 * grown * 2**i for i in range(4)))[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x]
        x = ConvNormAct(64, 7, 2, padding="SYMMETRIC", dtype=self.dtype, name="stem")(x, train=train)
        features.append(x)
        x = ops.max_pool(x, 3, stride=2, padding=(0, 1) if self.pads_end else 1)
        for layer in range(1, self.depth):
            # The max pooling replaces the stride of the first layer.
            stride, dilation = (1, 1) if layer == 1 else stage_dilation(2 ** (layer + 1), self.output_stride)
            for number in range(self.blocks[layer - 1]):
                block = ResidualBlock(
                    64 * 2 ** (layer - 1),
                    stride if number == 0 else 1,
                    max(dilation // 2, 1) if self.dilates_late and number == 0 else dilation,
                    self.bottleneck,
                    self.groups,
                    self.width,
                    self.squeeze,
                    self.dtype,
                    name=f"layer{layer}_block{number}",
                )
                x = block(x, train=train)
            features.append(x)
        return features


class ResidualBlock(nn.Module):
    """A residual block: two 3x3 convolutions, or a 3x3 convolution between two 1x1 convolutions.

    Attributes:
      features: number of output channels, or a quarter of them with `bottleneck`.
      stride: stride of the block.
      dilation: dilation of the 3x3 convolutions.
      bottleneck: the 3x3 convolution is between two 1x1 convolutions.
      groups: number of groups of the 3x3 convolution, with `bottleneck`.
      width: inner channels, all groups together, for each 64 `features`, with `bottleneck`.
      squeeze: squeeze-and-excitation at the end of the block.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    features: int
    stride: int
    dilation: int
    bottleneck: bool
    groups: int
    width: int
    squeeze: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H / stride, W / stride, O] of [B, H, W, C]."""
        layer = functools.partial(ConvNormAct, padding="SYMMETRIC", dtype=self.dtype)
        out = self.features * (4 if self.bottleneck else 1)
        if self.bottleneck:
            inner = self.features * self.width // 64
            y = layer(inner, 1, name="conv1")(x, train=train)
            y = layer(inner, 3, self.stride, self.dilation, self.groups, name="conv2")(y, train=train)
            y = layer(out, 1, activation=identity, name="conv3")(y, train=train)
        else:
            y = layer(out, 3, self.stride, self.dilation, name="conv1")(x, train=train)
            y = layer(out, 3, 1, self.dilation, activation=identity, name="conv2")(y, train=train)
        if self.squeeze:
            y = SqueezeExcitation(out // 16, dtype=self.dtype, name="squeeze")(y)
        if self.stride > 1 or x.shape[-1] != out:
            x = layer(out, 1, self.stride, activation=identity, name="downsample")(x, train=train)
        return nn.relu(x + y)


def _encoder(
    revision: str, name: str, blocks: tuple[int, int, int, int], *, bottleneck: bool, groups: int = 1, width: int = 64
) -> Encoder:
    make = functools.partial(ResNet, blocks, bottleneck, groups, width)
    return Encoder(make, HubFile(f"smp-hub/{name}.imagenet", revision))


ENCODERS: dict[str, Encoder] = {
    name: _encoder(revision, name, blocks, bottleneck=bottleneck, groups=groups, width=width)
    for name, blocks, bottleneck, groups, width, revision in (
        ("resnet18", (2, 2, 2, 2), False, 1, 64, "3f2325ff978283d47aa6a1d6878ca20565622683"),
        ("resnet34", (3, 4, 6, 3), False, 1, 64, "7a57b34f723329ff020b3f8bc41771163c519d0c"),
        ("resnet50", (3, 4, 6, 3), True, 1, 64, "00cb74e366966d59cd9a35af57e618af9f88efe9"),
        ("resnet101", (3, 4, 23, 3), True, 1, 64, "cd7c15e8c51da86ae6a084515fdb962d0c94e7d1"),
        ("resnet152", (3, 8, 36, 3), True, 1, 64, "951dd835e9d086628e447b484584c8983f9e1dd0"),
        ("resnext50_32x4d", (3, 4, 6, 3), True, 32, 128, "329793c85d62fd340ae42ae39fb905a63df872e7"),
        ("resnext101_32x8d", (3, 4, 23, 3), True, 32, 256, "221af6198d03a4ee88992f78a1ee81b46a52d339"),
    )
} | {
    "se_resnext50_32x4d": Encoder(
        functools.partial(ResNet, (3, 4, 6, 3), True, 32, 128, squeeze=True, pads_end=True),
        HubFile("smp-hub/se_resnext50_32x4d.imagenet", "73246406d879a2b0e3fdfe6fddd56347d38f38ae"),
    ),
    "seresnext50_32x4d": Encoder(
        functools.partial(ResNet, (3, 4, 6, 3), True, 32, 128, squeeze=True, dilates_late=True),
        HubFile("timm/seresnext50_32x4d.racm_in1k", "main", license="apache-2.0"),
    ),
}
"""Blocks of each layer, whether they are bottlenecks, groups, width, and the revision of the public weights."""
