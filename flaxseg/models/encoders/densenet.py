"""DenseNet (Huang et al. 2017, https://arxiv.org/abs/1608.06993)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.layers.conv import Conv, ConvNormAct
from flaxseg.models.layers.normalization import norm
from flaxseg.models.pretrained.torch_names import TorchNames

_GROWTH = 32
_STEM_WIDTH = 64


class DenseNet(nn.Module):
    """DenseNet. Parameters are named `stem/...`, `block{i}_layer{j}/{norm,conv}{k}`, `transition{i}_{norm,conv}`,
    `last`.

    As in segmentation_models_pytorch, the features are those of the dense blocks after the normalization and ReLU of
    the following transition; the feature at 1/32 is the last block's, normalized. Strides are those of poolings,
    which cannot be dilated instead.

    Attributes:
      blocks: number of layers of each dense block.
      depth: number of times that the encoder halves the image.
      output_stride: 32, or 2**depth if that is less.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    blocks: tuple[int, int, int, int]
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    # The oldest public files have a dot before a layer's number.
    torch_names: ClassVar[TorchNames] = (
        (r"features\.conv0", "stem/conv"),
        (r"features\.norm0", "stem/norm"),
        (r"features\.denseblock(\d)\.denselayer(\d+)\.(norm|conv)\.?(\d)", r"block\1_layer\2/\3\4"),
        (r"features\.transition(\d)\.(norm|conv)", r"transition\1_\2"),
        (r"features\.norm5", "last"),
        (r"classifier", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        found, width = [_STEM_WIDTH], _STEM_WIDTH
        for count in self.blocks:
            found.append(width + _GROWTH * count)
            width = found[-1] // 2
        return tuple(found[: self.depth])

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features, normalize = [x], functools.partial(norm, "batch", train=train, dtype=self.dtype)
        x = ConvNormAct(_STEM_WIDTH, 7, 2, padding="SYMMETRIC", dtype=self.dtype, name="stem")(x, train=train)
        features.append(x)
        x = ops.max_pool(x, 3, stride=2, padding=1)
        for number in range(1, self.depth):
            for index in range(self.blocks[number - 1]):
                layer = _Layer(self.dtype, name=f"block{number}_layer{index + 1}")
                x = layer(x, train=train)
            if number == len(self.blocks):
                features.append(normalize(x.shape[-1], name="last")(x))
                break
            feature = nn.relu(normalize(x.shape[-1], name=f"transition{number}_norm")(x))
            features.append(feature)
            if number + 1 < self.depth:
                options = {"use_bias": False, "dtype": self.dtype}
                x = ops.average_pool(Conv(x.shape[-1] // 2, 1, **options, name=f"transition{number}_conv")(feature))
        return features


class _Layer(nn.Module):
    """A layer of a dense block: its output is appended to the channels of its input."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        normalize = functools.partial(norm, "batch", train=train, dtype=self.dtype)
        options = {"padding": "SYMMETRIC", "use_bias": False, "dtype": self.dtype}
        y = nn.relu(normalize(x.shape[-1], name="norm1")(x))
        y = Conv(4 * _GROWTH, 1, **options, name="conv1")(y)
        y = nn.relu(normalize(4 * _GROWTH, name="norm2")(y))
        y = Conv(_GROWTH, 3, **options, name="conv2")(y)
        return jnp.concatenate([x.astype(self.dtype), y], axis=-1)


ENCODERS: dict[str, Encoder] = {
    name: Encoder(
        functools.partial(DenseNet, blocks),
        HubFile(f"timm/{name}.{weights}", "main", license="apache-2.0"),
        output_strides=(32,),
    )
    for name, blocks, weights in (
        ("densenet121", (6, 12, 24, 16), "ra_in1k"),
        ("densenet169", (6, 12, 32, 32), "tv_in1k"),
    )
}
"""Layers of each dense block, and the tag of timm's default weights."""
