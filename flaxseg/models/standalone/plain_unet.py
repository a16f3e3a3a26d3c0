"""The plain U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597), with SAME padding and normalization."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, FINITE, check_choice, check_integer
from flaxseg.models.arguments import ChannelValues, NormalizationValues, channel_values, check_dtype
from flaxseg.models.layers.attention import AttentionGate
from flaxseg.models.layers.conv import (
    ACTIVATIONS,
    UPSAMPLINGS,
    Conv,
    ConvNormAct,
    UpSample,
    activation_fn,
    crop,
    pad_to_stride,
)
from flaxseg.models.layers.normalization import NORMS
from flaxseg.models.option_names import names_checked

CLASSIC: Mapping[str, Any] = MappingProxyType(
    {
        "width": 64,
        "max_width": 512,
        "kernel_size": 4,
        "activation": "leaky_relu",
        "negative_slope": 0.3,
        "decoder_dropout": 0.2,
        "decoder_dropout_from": 2,
        "head_convs": 2,
        "head_dropout": 0.3,
    }
)
"""Options of the classic, heavily regularized U-Net for small datasets: `plain_unet(num_classes=3, **CLASSIC)`."""


@names_checked
def plain_unet(
    *,
    num_classes: int,
    width: int = 32,
    depth: int = 4,
    max_width: int | None = None,
    kernel_size: int = 3,
    norm: str = "batch",
    activation: str = "relu",
    negative_slope: float = 0.01,
    upsampling: str = "transposed",
    decoder_dropout: float = 0.0,
    decoder_dropout_from: int = 0,
    head_convs: int = 0,
    head_dropout: float = 0.0,
    gate_from: int | None = None,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> "UNet":
    """Returns a U-Net with a simple encoder of its own: 7,763,107 parameters for 3 classes and 3 channels.

    Args:
      num_classes: number of classes, the channels of the logits.
      width: channels at full resolution; they double with each level.
      depth: number of times that the resolution is halved.
      max_width: limit on the channels of each level; None: no limit.
      kernel_size: height and width of the blocks' kernels.
      norm: "batch", "group" or "none".
      activation: "relu", "leaky_relu", "elu", "gelu", "silu", "swish" or "hard_swish".
      negative_slope: slope of "leaky_relu" below 0.
      upsampling: "transposed" (2x2, stride 2), or "bilinear" or "nearest" after a 1x1 convolution.
      decoder_dropout: dropout rate after the decoder's blocks.
      decoder_dropout_from: the finest level, 0 at full resolution, that has this dropout.
      head_convs: number of further convolutions at full resolution before the head.
      head_dropout: dropout rate after each of these convolutions.
      gate_from: the finest level, 0 at full resolution, whose skip has an attention gate (Oktay et al. 2018,
        https://arxiv.org/abs/1804.03999); None: there are no gates. Gates have neither normalization nor the blocks'
        activation.
      mean: mean that is subtracted from images with values 0..255: one number, or one per channel; None: 127.5.
      std: standard deviation that the result is divided by: one number, or one per channel; None: 127.5.
      dtype: float32 or bfloat16, the data type of the computation; parameters, statistics and logits are float32.

    Raises:
      ArgumentError: an argument is out of range.
    """
    check_integer("width", width, 1)
    check_integer("depth", depth, 1)
    if max_width is not None:
        check_integer("max_width", max_width, 1)
    network = UNet(
        num_classes=num_classes,
        widths=tuple(min(width * 2**level, max_width or width * 2**level) for level in range(depth + 1)),
        kernel_size=kernel_size,
        norm=norm,
        activation=activation,
        negative_slope=negative_slope,
        upsampling=upsampling,
        decoder_dropout=decoder_dropout,
        decoder_dropout_from=decoder_dropout_from,
        head_convs=head_convs,
        head_dropout=head_dropout,
        gate_from=gate_from,
        mean=channel_values("mean", 127.5 if mean is None else mean),
        std=channel_values("std", 127.5 if std is None else std, positive=True),
        dtype=dtype,
    )
    network.check()
    return network


class UNet(nn.Module):
    """U-Net with `len(widths)` levels. See `plain_unet`.

    Parameters are named `encoder/level{i}/block{j}/...`, `decoder/level{i}/{gate,up,block{j}}/...`, `head/...`, with
    level 0 at full resolution.

    Attributes:
      widths: channels of each level, from full resolution. The other attributes are arguments of `plain_unet`.
    """

    num_classes: int
    widths: tuple[int, ...]
    kernel_size: int
    norm: str
    activation: str
    negative_slope: float
    upsampling: str
    decoder_dropout: float
    decoder_dropout_from: int
    head_convs: int
    head_dropout: float
    gate_from: int | None
    mean: ChannelValues
    std: ChannelValues
    dtype: Any

    @property
    def stride(self) -> int:
        """Height and width are padded to multiples of this number."""
        return 2 ** (len(self.widths) - 1)

    def check(self) -> None:
        """Raises ArgumentError if an attribute is out of range."""
        for argument, low in (("num_classes", 1), ("kernel_size", 1), ("decoder_dropout_from", 0), ("head_convs", 0)):
            check_integer(argument, getattr(self, argument), low)
        if self.gate_from is not None:
            check_integer("gate_from", self.gate_from, 0, len(self.widths) - 2)
        check_choice("norm", self.norm, NORMS)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        FINITE.check("negative_slope", self.negative_slope)
        DROPOUT_RATE.check("decoder_dropout", self.decoder_dropout)
        DROPOUT_RATE.check("head_dropout", self.head_dropout)
        check_dtype("dtype", self.dtype)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns the logits of normalized images.

        Args:
          x: normalized images, float[B, H, W, C], of any size.
          train: normalize by the batch's own statistics (the collection "batch_stats" has to be mutable), and apply
            dropout with the random key "dropout".

        Returns:
          float32[B, H, W, num_classes].
        """
        size = x.shape[1], x.shape[2]
        block = {"kernel_size": self.kernel_size, "norm": self.norm, "dtype": self.dtype}
        block["activation"] = activation_fn(self.activation, negative_slope=self.negative_slope)
        features = _Encoder(self.widths, block, name="encoder")(pad_to_stride(x, self.stride), train=train)
        levels = range(len(features) - 1)
        dropout = tuple(self.decoder_dropout * (level >= self.decoder_dropout_from) for level in levels)
        gated = tuple(self.gate_from is not None and level >= self.gate_from for level in levels)
        x = _Decoder(self.upsampling, dropout, gated, block, name="decoder")(features, train=train)
        for i in range(self.head_convs):
            x = ConvNormAct(self.widths[0], **block, name=f"head_block{i}")(x, train=train)
            x = nn.Dropout(self.head_dropout, deterministic=not train)(x)
        # In float32 regardless of `dtype`, because rounding errors of the logits would affect the loss.
        return crop(Conv(self.num_classes, 1, name="head")(x), size)


class _Encoder(nn.Module):
    """Two convolutions at each level, with max pooling between levels."""

    widths: tuple[int, ...]
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        features = []
        for level, width in enumerate(self.widths):
            if level:
                x = ops.max_pool(x)
            x = _DoubleConv(width, self.block, name=f"level{level}")(x, train=train)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """Upsamples from the coarsest level to full resolution.

    Attributes:
      upsampling: "transposed", "bilinear" or "nearest".
      dropout: dropout rate after each level, from full resolution.
      gated: whether the skip of each level has a gate, from full resolution.
      block: options of the convolution blocks.
    """

    upsampling: str
    dropout: tuple[float, ...]
    gated: tuple[bool, ...]
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            options = self.dropout[level], self.gated[level], self.block
            x = _DecoderLevel(self.upsampling, *options, name=f"level{level}")(x, features[level], train=train)
        return x


class _DecoderLevel(nn.Module):
    """Upsampling by 2, concatenation with the skip, and two convolutions."""

    upsampling: str
    dropout: float
    gated: bool
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, *, train: bool) -> jax.Array:
        width = skip.shape[-1]
        if self.gated:
            skip = AttentionGate(dtype=self.block["dtype"], name="gate")(skip, x)
        x = UpSample(width, self.upsampling, dtype=self.block["dtype"], name="up")(x)
        x = ConvNormAct(width, **self.block, name="block0")(x, skip, train=train)
        x = ConvNormAct(width, **self.block, name="block1")(x, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class _DoubleConv(nn.Module):
    """Two convolution blocks with the same number of channels."""

    width: int
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for i in range(2):
            x = ConvNormAct(self.width, **self.block, name=f"block{i}")(x, train=train)
        return x
