"""VGG (Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556), with and without batch normalization."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """VGG without its classifier. Parameters are named `block{i}/conv{j}/...`.

    Features are the blocks' outputs before they are pooled; the feature at 1/32 is the last block's pooled output. VGG
    has no strided convolutions that could be dilated instead.

    Attributes:
      convs: number of convolutions of each block.
      norm: "batch" or "none".
      depth: number of times that the encoder halves the image.
      output_stride: 32, or 2**depth if that is less.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    convs: tuple[int, int, int, int, int]
    norm: str = "none"
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    @property
    def torch_names(self) -> TorchNames:
        """The modules by their index in torchvision's sequence of convolutions, normalizations, ReLUs and poolings."""
        names: list[tuple[str, str | None]] = [(r"classifier\.\d", None)]
        index, normalizes = 0, self.norm != "none"
        for block, count in enumerate(self.convs, 1):
            for conv in range(1, count + 1):
                names.append((rf"features\.{index}", f"block{block}/conv{conv}/conv"))
                if normalizes:
                    names.append((rf"features\.{index + 1}", f"block{block}/conv{conv}/norm"))
                index += 2 + normalizes
            index += 1
        return names

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (*_WIDTHS[1:], _WIDTHS[-1])[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features; the first has 64 channels at the image's own size."""
        features: list[jax.Array] = []
        for number, (width, count) in enumerate(zip(_WIDTHS, self.convs, strict=True)):
            if number <= self.depth:
                x = ops.max_pool(features[-1]) if features else x
                block = _Block(width, count, self.norm, self.dtype, name=f"block{number + 1}")
                features.append(block(x, train=train))
        return features if self.depth < len(_WIDTHS) else [*features, ops.max_pool(features[-1])]


class _Block(nn.Module):
    """Convolutions of equal width, with a bias even before a normalization, as in the public weights."""

    width: int
    count: int
    norm: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for number in range(self.count):
            conv = ConvNormAct(self.width, norm=self.norm, use_bias=True, dtype=self.dtype, name=f"conv{number + 1}")
            x = conv(x, train=train)
        return x


def _encoder(name: str, convs: tuple[int, int, int, int, int], revision: str) -> Encoder:
    make = functools.partial(VGG, convs, "batch" if name.endswith("_bn") else "none")
    return Encoder(make, HubFile(f"smp-hub/{name}.imagenet", revision), output_strides=(32,), unpooled_features=True)


ENCODERS: dict[str, Encoder] = {
    name: _encoder(name, convs, revision)
    for name, convs, revision in (
        ("vgg11", (1, 1, 2, 2, 2), "ad8b90e1051c38fdbf399cf5016886a1be357390"),
        ("vgg11_bn", (1, 1, 2, 2, 2), "59757f9215032c9f092977092d57d26a9df7fd9c"),
        ("vgg13", (2, 2, 2, 2, 2), "1b70ff2580f101a8007a48b51e2b5d1e5925dc42"),
        ("vgg13_bn", (2, 2, 2, 2, 2), "9be454515193af6612261b7614fe90607e27b143"),
        ("vgg16", (2, 2, 3, 3, 3), "49d74b799006ee252b86e25acd6f1fd8ac9a99c1"),
        ("vgg16_bn", (2, 2, 3, 3, 3), "2c186d02fb519e93219a99a1c2af6295aef0bf0d"),
        ("vgg19", (2, 2, 4, 4, 4), "2853d00d7bca364dbb98be4d6afa347e5aeec1f6"),
        ("vgg19_bn", (2, 2, 4, 4, 4), "f09a924cb0d201ea6f61601df9559141382271d7"),
    )
}
"""Convolutions of each block, and the revision of the public weights; `_bn` means batch normalization."""
