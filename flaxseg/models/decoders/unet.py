"""U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597), with SAME padding and normalization."""

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from flaxseg.errors import ConfigError
from flaxseg.models.arguments import check_choice, check_widths
from flaxseg.models.decoders.unet_decoder import UNetDecoder
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.standalone.plain_unet import UNet, plain_unet

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
) -> UNet | EncoderDecoder:
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
        return plain_unet(**own, mean=127.5 if mean is None else mean, std=127.5 if std is None else std)
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
