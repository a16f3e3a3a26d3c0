"""Attention U-Net (Oktay et al. 2018, https://arxiv.org/abs/1804.03999) for two-dimensional images."""

from typing import Any

import jax.numpy as jnp

from flaxseg.models.arguments import NormalizationValues
from flaxseg.models.standalone.plain_unet import UNet, checked_unet


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
    """Returns a plain U-Net with gated skips: 32,071,750 parameters for 3 classes and 3 channels.

    A gate multiplies each pixel of the encoder's features by a weight between 0 and 1, computed from these features
    and the decoder's coarser ones (see `AttentionGate`).

    Args:
      num_classes: number of classes, the channels of the logits.
      width: channels at full resolution; they double with each level.
      depth: number of times that the resolution is halved.
      gate_from: the finest level, 0 at full resolution, whose skip has a gate; the paper has none at level 0, whose
        features are too low-level for it.
      max_width: limit on the channels of each level; None: no limit.
      kernel_size: height and width of the blocks' kernels.
      norm: "batch", "group" or "none"; the gates have no normalization.
      activation: a name of `layers.conv.ACTIVATIONS`; the gates use ReLU.
      negative_slope: slope of "leaky_relu" below 0.
      upsampling: "transposed" (2x2, stride 2), or "bilinear" or "nearest" after a 1x1 convolution.
      decoder_dropout: dropout rate after the decoder's blocks.
      decoder_dropout_from: the finest level, 0 at full resolution, that has this dropout.
      mean: subtracted from images with values 0..255: one number, or one per channel; None: 127.5.
      std: what the difference is divided by: one number, or one per channel; None: 127.5.
      dtype: float32 or bfloat16, the type that is computed in; parameters, statistics and logits are float32.

    Raises:
      ArgumentError: an argument is out of range.
    """
    return checked_unet(
        num_classes=num_classes,
        width=width,
        depth=depth,
        max_width=max_width,
        mean=mean,
        std=std,
        gate_from=gate_from,
        kernel_size=kernel_size,
        norm=norm,
        activation=activation,
        negative_slope=negative_slope,
        upsampling=upsampling,
        decoder_dropout=decoder_dropout,
        decoder_dropout_from=decoder_dropout_from,
        dtype=dtype,
    )
