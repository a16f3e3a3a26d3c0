"""Pyramid attention network (Li et al. 2018, https://arxiv.org/abs/1805.10180) with any encoder."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames, nested


class FeaturePyramidAttention(nn.Module):
    """Weights each pixel by a pyramid of three coarser scales, and adds global average pooling.

    Convolutions have a bias although a normalization follows, as the reference's weights do.

    Attributes:
      channels: number of output channels.
      kernel_sizes: kernel sizes at 1/2, 1/4 and 1/8 of the input's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    channels: int
    kernel_sizes: tuple[int, ...] = (7, 5, 3)
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = tuple(
        (rf"{theirs}\.{module}", f"{ours}/{leaf}")
        for theirs, ours in (
            (r"branch1\.1", "pooling"),
            (r"mid\.0", "middle"),
            (r"down1\.1", "down1"),
            (r"down2\.1", "down2"),
            (r"down3\.1", "down3"),
            (r"down3\.2", "up3"),
            (r"conv2", "up2"),
            (r"conv1", "up1"),
        )
        for module, leaf in (("conv", "conv"), ("bn", "norm"))
    )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H, W, channels] of [B, H, W, C]."""
        layer = functools.partial(ConvNormAct, use_bias=True, dtype=self.dtype)
        middle = layer(self.channels, 1, name="middle")(x, train=train)
        mean = layer(self.channels, 1, name="pooling")(ops.adaptive_average_pool(x, 1), train=train)
        scales = []
        for number, kernel_size in enumerate(self.kernel_sizes, 1):
            x = layer(1, kernel_size, name=f"down{number}")(_halved(x), train=train)
            scales.append(x)
        weights: list[jax.Array] = []
        for number in range(len(scales), 0, -1):
            weight = layer(1, self.kernel_sizes[number - 1], name=f"up{number}")(scales[number - 1], train=train)
            weights.append(weight + _resized_to(weight, weights[-1]) if weights else weight)
        return middle * _resized_to(middle, weights[-1]) + mean


class GlobalAttentionUpsample(nn.Module):
    """Upsamples a coarse feature map, and adds a finer one whose channels are weighted by the coarse map's means.

    Attributes:
      channels: number of channels of the coarse feature map and of the output.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    channels: int
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"conv1\.1\.conv", "gate/conv"),
        (r"conv1\.1\.bn", "gate/norm"),
        (r"conv2\.conv", "detail/conv"),
        (r"conv2\.bn", "detail/norm"),
    )

    @nn.compact
    def __call__(self, fine: jax.Array, coarse: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, H, W, channels] of [B, H, W, C] and [B, h, w, channels]."""
        layer = functools.partial(ConvNormAct, self.channels, use_bias=True, dtype=self.dtype)
        gate = layer(1, activation=nn.sigmoid, name="gate")(ops.adaptive_average_pool(coarse, 1), train=train)
        return _resized_to(fine, coarse) + gate * layer(3, name="detail")(fine, train=train)


class PANDecoder(Decoder):
    """Pyramid attention on the coarsest feature, then global attention upsampling to 1/4 of the image's size.

    Parameters are named `attention/...` and `upsample{i}/...`, with i = 1 at 1/4.

    Attributes:
      decoder_channels: channels of every feature map in the decoder.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 32
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        *nested(r"fpa\.", "attention", FeaturePyramidAttention.torch_names),
        *nested(r"gau(\d)\.", r"upsample\1", GlobalAttentionUpsample.torch_names),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H / 4, W / 4, decoder_channels]."""
        attention = FeaturePyramidAttention(self.decoder_channels, dtype=self.dtype, name="attention")
        x = attention(features[-1], train=train)
        finer = features[2:-1]
        for number in range(len(finer), 0, -1):
            block = GlobalAttentionUpsample(self.decoder_channels, dtype=self.dtype, name=f"upsample{number}")
            x = block(finer[number - 1], x, train=train)
        return x


def _halved(x: jax.Array) -> jax.Array:
    """Returns the maximum of each 2x2 block; a single row or column is repeated, so that images can be any size."""
    for axis in (1, 2):
        x = jnp.concatenate([x, x], axis) if x.shape[axis] == 1 else x
    return ops.max_pool(x)


def _resized_to(target: jax.Array, x: jax.Array) -> jax.Array:
    """Returns `x` resized to the height and width of `target`."""
    return ops.resize_bilinear(x, (target.shape[1], target.shape[2]), align_corners=True)
