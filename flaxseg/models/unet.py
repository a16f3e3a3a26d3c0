"""U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597), with SAME padding and normalisation."""

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import ConfigError
from flaxseg.models.arguments import (
    ChannelValues,
    channel_values,
    check_choice,
    check_dtype,
    check_integer,
    check_number,
    check_rate,
    check_widths,
)
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.layers import (
    ACTIVATIONS,
    NORMS,
    UPSAMPLINGS,
    Conv,
    ConvNormAct,
    UpSample,
    activation_fn,
    crop,
    pad_to_stride,
)
from flaxseg.models.unet_decoder import UNetDecoder

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
"""Options of the classic, heavily regularised U-Net for few pictures: `unet(num_classes=3, **CLASSIC)`."""


def unet(
    *,
    num_classes: int,
    encoder: str = "",
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    attention: str = "none",
    remat: bool = False,
    image_classes: int = 0,
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
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> "UNet | EncoderDecoder":
    """A U-Net: around an encoder, or by default the plain one of 7,763,107 parameters for 3 classes and 3 channels.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS, which makes it the network of segmentation_models_pytorch; "": the plain U-Net.
      encoder_depth: with an encoder: how often it halves the picture.
      decoder_channels: with an encoder: channels of the decoder's blocks, the coarsest first.
      attention: with an encoder: "scse" for attention in the decoder's blocks, or "none".
      remat: with an encoder: as of `encoder_decoder`.
      image_classes: with an encoder: as of `encoder_decoder`.
      width: channels at full resolution; they double with each level down. This and the next are the plain U-Net's.
      depth: number of times that the resolution is halved.
      max_width: channels that no level exceeds; None for no limit.
      kernel_size: height and width of the blocks' kernels.
      norm: "batch", "group" or "none".
      activation: a name in `layers.ACTIVATIONS`.
      negative_slope: slope of "leaky_relu" below 0.
      upsampling: "transposed" (2x2, stride 2), or "bilinear" or "nearest" after a 1x1 convolution.
      decoder_dropout: dropout rate after the decoder's blocks.
      decoder_dropout_from: the lowest level, 0 at full resolution, that `decoder_dropout` applies to.
      head_convs: further convolutions at full resolution before the head.
      head_dropout: dropout rate after each of these.
      mean: subtracted from a picture's 0..255 by the training step: one number, or one a channel; None: that of the
        encoder's public weights, or 127.5.
      std: what the difference is divided by; likewise.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range, or belongs to the other kind of U-Net; the message names it and what is
        allowed.
    """
    given = dict(locals())
    _check_kind(given)
    if not encoder:
        own = {name: given[name] for name in ("num_classes", "dtype", *PLAIN_ONLY)}
        return _plain(**own, mean=127.5 if mean is None else mean, std=127.5 if std is None else std)
    check_choice("attention", attention, ("none", "scse"))
    widths = check_widths("decoder_channels", decoder_channels, count=encoder_depth)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        # VGG ends in features as fine as those that other encoders have before their last convolutions.
        decoder=lambda _: UNetDecoder(widths, attention, center=encoder.startswith("vgg"), dtype=dtype),
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
    )


ENCODER_ONLY = ("encoder_depth", "decoder_channels", "attention", "remat", "image_classes")
PLAIN_ONLY = (
    "width",
    "depth",
    "max_width",
    "kernel_size",
    "norm",
    "activation",
    "negative_slope",
    "upsampling",
    "decoder_dropout",
    "decoder_dropout_from",
    "head_convs",
    "head_dropout",
)


def _check_kind(given: Mapping[str, Any]) -> None:
    """Raises ConfigError when an argument differs from its default that only the other kind of U-Net has."""
    parameters = inspect.signature(unet).parameters
    unused = PLAIN_ONLY if given["encoder"] else ENCODER_ONLY
    kind = "a U-Net with an encoder" if given["encoder"] else "the plain U-Net, which `encoder` was not given for,"
    for name in unused:
        if given[name] != parameters[name].default:
            raise ConfigError(f"{name} = {given[name]!r}: {kind} does not have this option; leave it out")


def _plain(
    *,
    num_classes: int,
    width: int,
    depth: int,
    max_width: int | None,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    dtype: Any,
    **others: Any,
) -> "UNet":
    """The plain U-Net, once its arguments were checked."""
    for name, value, low in (
        ("num_classes", num_classes, 1),
        ("width", width, 1),
        ("depth", depth, 1),
        ("max_width", width if max_width is None else max_width, 1),
        ("kernel_size", others["kernel_size"], 1),
        ("decoder_dropout_from", others["decoder_dropout_from"], 0),
        ("head_convs", others["head_convs"], 0),
    ):
        check_integer(name, value, low)
    for name, allowed in (("norm", NORMS), ("activation", tuple(ACTIVATIONS)), ("upsampling", UPSAMPLINGS)):
        check_choice(name, others[name], allowed)
    check_number("negative_slope", others["negative_slope"])
    check_rate("decoder_dropout", others["decoder_dropout"])
    check_rate("head_dropout", others["head_dropout"])
    check_dtype("dtype", dtype)
    return UNet(
        num_classes=num_classes,
        widths=tuple(min(width * 2**level, max_width or width * 2**level) for level in range(depth + 1)),
        mean=channel_values("mean", mean),
        std=channel_values("std", std, positive=True),
        dtype=dtype,
        **others,
    )


class UNet(nn.Module):
    """U-Net of `len(widths)` levels; made by `unet`, which documents and checks the attributes.

    Parameters are named `encoder/level{i}/block{j}/...`, `decoder/level{i}/{up,block{j}}/...`, `head/...`, with
    level 0 at full resolution.
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
    mean: ChannelValues
    std: ChannelValues
    dtype: Any

    @property
    def stride(self) -> int:
        """What the height and width are padded to a multiple of."""
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits, float32[B, H, W, num_classes], of normalised pictures, float[B, H, W, C], of any size.

        With `train`, batch statistics are those of the batch (and `batch_stats` is to be mutable), and dropout
        takes its randomness from the collection "dropout".
        """
        size = x.shape[1], x.shape[2]
        block = {"kernel_size": self.kernel_size, "norm": self.norm, "dtype": self.dtype}
        block["activation"] = activation_fn(self.activation, negative_slope=self.negative_slope)
        features = _Encoder(self.widths, block, name="encoder")(pad_to_stride(x, self.stride), train=train)
        dropout = [self.decoder_dropout * (level >= self.decoder_dropout_from) for level in range(len(features) - 1)]
        x = _Decoder(self.upsampling, tuple(dropout), block, name="decoder")(features, train=train)
        for i in range(self.head_convs):
            x = ConvNormAct(self.widths[0], **block, name=f"head_block{i}")(x, train=train)
            x = nn.Dropout(self.head_dropout, deterministic=not train)(x)
        # In float32 whatever the rest is computed in: rounded logits would show in the loss.
        return crop(Conv(self.num_classes, 1, name="head")(x), size)


class _Encoder(nn.Module):
    """Features of each level, from full resolution down."""

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
    """From the encoder's features back up to full resolution; `dropout` is the rate after each level, from 0."""

    upsampling: str
    dropout: tuple[float, ...]
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            x = _DecoderLevel(self.upsampling, self.dropout[level], self.block, name=f"level{level}")(
                x, features[level], train=train
            )
        return x


class _DecoderLevel(nn.Module):
    """Up-sampling by 2, merged with the encoder's features of the same size."""

    upsampling: str
    dropout: float
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, *, train: bool) -> jax.Array:
        width = skip.shape[-1]
        x = UpSample(width, self.upsampling, dtype=self.block["dtype"], name="up")(x)
        x = ConvNormAct(width, **self.block, name="block0")(x, skip, train=train)
        x = ConvNormAct(width, **self.block, name="block1")(x, train=train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class _DoubleConv(nn.Module):
    """Two convolution blocks of one width."""

    width: int
    block: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for i in range(2):
            x = ConvNormAct(self.width, **self.block, name=f"block{i}")(x, train=train)
        return x
