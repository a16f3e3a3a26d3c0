"""Attention U-Net (Oktay et al. 2018, https://arxiv.org/abs/1804.03999) for pictures."""

from typing import Any

import jax.numpy as jnp

from flaxseg.models.encoder_decoder import NormalizationValues
from flaxseg.models.standalone.plain_unet import UNet, plain_unet


def attention_unet(
    *,
    num_classes: int,
    width: int = 64,
    depth: int = 4,
    gate_from: int = 1,
    max_width: int | None = None,
    kernel_size: int = 3,
    norm: str = "batch",
    activation: str = "relu",
    negative_slope: float = 0.01,
    upsampling: str = "transposed",
    decoder_dropout: float = 0.0,
    decoder_dropout_from: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> UNet:
    """The plain U-Net with gates on its skips: 32,071,750 parameters for 3 classes and 3 channels.

    A gate multiplies each place of an encoder's feature by a number between 0 and 1 that follows from the feature and
    from what the decoder made of the coarser ones (`AttentionGate`).

    Args:
      num_classes: channels of the logits.
      width: channels at full resolution; they double with each level down.
      depth: number of times that the resolution is halved.
      gate_from: the lowest level, 0 at full resolution, whose skip has a gate. The paper leaves level 0 without one:
        its features say too little for it.
      max_width: channels that no level exceeds; None for no limit.
      kernel_size: height and width of the blocks' kernels.
      norm: "batch", "group" or "none". The gates have none.
      activation: a name in `layers.ACTIVATIONS`. The gates have ReLU.
      negative_slope: slope of "leaky_relu" below 0.
      upsampling: "transposed" (2x2, stride 2), or "bilinear" or "nearest" after a 1x1 convolution.
      decoder_dropout: dropout rate after the decoder's blocks.
      decoder_dropout_from: the lowest level that `decoder_dropout` applies to.
      mean: subtracted from a picture's 0..255 by the training step: one number, or one a channel; None: 127.5.
      std: what the difference is divided by; likewise.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    return plain_unet(
        num_classes=num_classes,
        width=width,
        depth=depth,
        gate_from=gate_from,
        max_width=max_width,
        kernel_size=kernel_size,
        norm=norm,
        activation=activation,
        negative_slope=negative_slope,
        upsampling=upsampling,
        decoder_dropout=decoder_dropout,
        decoder_dropout_from=decoder_dropout_from,
        head_convs=0,
        head_dropout=0.0,
        mean=127.5 if mean is None else mean,
        std=127.5 if std is None else std,
        dtype=dtype,
    )
