"""Deep Residual U-Net (Zhang et al. 2018, https://arxiv.org/abs/1711.10684)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import (
    ChannelValues,
    channel_values,
    check_boolean,
    check_choice,
    check_dtype,
    check_integer,
    check_rate,
)
from flaxseg.models.encoder_decoder import NormalizationValues
from flaxseg.models.layers.conv import ACTIVATIONS, Conv, activation_fn, apply_block, crop, pad_to_stride
from flaxseg.models.layers.normalization import NORMS, Activation, norm

UPSAMPLINGS = ("nearest", "bilinear")


def resunet(
    *,
    num_classes: int,
    width: int = 64,
    depth: int = 3,
    kernel_size: int = 3,
    norm: str = "batch",
    activation: str = "relu",
    upsampling: str = "nearest",
    dropout: float = 0.0,
    remat: bool = False,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> "ResUNet":
    """A U-Net of residual units: 8,216,899 parameters for 3 classes and 3 channels.

    Args:
      num_classes: channels of the logits.
      width: channels at full resolution; they double with each level down.
      depth: number of times that the resolution is halved.
      kernel_size: height and width of the units' kernels.
      norm: "batch", "group" or "none".
      activation: a name in `layers.ACTIVATIONS`.
      upsampling: "nearest" or "bilinear", of the coarser features before they join the finer ones.
      dropout: rate between the two convolutions of a unit (Zagoruyko and Komodakis 2016,
        https://arxiv.org/abs/1605.07146).
      remat: compute the units again for the gradient instead of keeping what they gave: less memory, a third more time.
      mean: subtracted from a picture's 0..255 by the training step: one number, or one a channel; None: 127.5.
      std: what the difference is divided by; likewise.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    for name, value in (
        ("num_classes", num_classes),
        ("width", width),
        ("depth", depth),
        ("kernel_size", kernel_size),
    ):
        check_integer(name, value, 1)
    check_choice("norm", norm, NORMS)
    check_choice("activation", activation, tuple(ACTIVATIONS))
    check_choice("upsampling", upsampling, UPSAMPLINGS)
    check_rate("dropout", dropout)
    check_boolean("remat", remat)
    check_dtype("dtype", dtype)
    return ResUNet(
        num_classes=num_classes,
        widths=tuple(width * 2**level for level in range(depth + 1)),
        kernel_size=kernel_size,
        norm=norm,
        activation=activation,
        upsampling=upsampling,
        dropout=float(dropout),
        remat=remat,
        mean=channel_values("mean", 127.5 if mean is None else mean),
        std=channel_values("std", 127.5 if std is None else std, positive=True),
        dtype=dtype,
    )


class ResUNet(nn.Module):
    """One residual unit a level on the way down and one on the way up; made by `resunet`, which documents attributes.

    Parameters are named `encoder/level{i}/...`, `decoder/level{i}/...`, `head/...`, with level 0 at full resolution.
    """

    num_classes: int
    widths: tuple[int, ...]
    kernel_size: int
    norm: str
    activation: str
    upsampling: str
    dropout: float
    remat: bool
    mean: ChannelValues
    std: ChannelValues
    dtype: Any

    @property
    def stride(self) -> int:
        """What the height and width are padded to a multiple of."""
        return 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Logits, float32[B, H, W, num_classes], of normalized pictures, float[B, H, W, C], of any size.

        With `train`, batch statistics are those of the batch (and `batch_stats` is to be mutable), and dropout
        takes its randomness from the collection "dropout".
        """
        size = x.shape[1], x.shape[2]
        unit = {"kernel_size": self.kernel_size, "norm": self.norm, "dropout": self.dropout, "dtype": self.dtype}
        unit["activation"] = activation_fn(self.activation)
        features = _Encoder(self.widths, unit, self.remat, name="encoder")(pad_to_stride(x, self.stride), train=train)
        x = _Decoder(self.upsampling, unit, self.remat, name="decoder")(features, train=train)
        # In float32 whatever the rest is computed in: rounded logits would show in the loss.
        return crop(Conv(self.num_classes, 1, name="head")(x), size)


class _Encoder(nn.Module):
    """Features of each level, from full resolution down."""

    widths: tuple[int, ...]
    unit: Mapping[str, Any]
    remat: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        features = []
        for level, width in enumerate(self.widths):
            step = 2 if level else 1
            unit = _Unit(width, **self.unit, step=step, activates_first=level > 0, name=f"level{level}")
            x = apply_block(unit, x, train=train, remat=self.remat)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """From the encoder's features back up to full resolution."""

    upsampling: str
    unit: Mapping[str, Any]
    remat: bool

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        resize = {"nearest": ops.resize_nearest, "bilinear": ops.resize_bilinear}[self.upsampling]
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            skip = features[level]
            unit = _Unit(skip.shape[-1], **self.unit, name=f"level{level}")
            x = resize(x, (skip.shape[1], skip.shape[2]))
            x = apply_block(unit, x, skip, train=train, remat=self.remat)
        return x


class _Unit(nn.Module):
    """Normalization, activation and convolution twice, and a projection of what comes in added to what they give."""

    features: int
    kernel_size: int
    norm: str
    activation: Activation
    dropout: float
    dtype: Any
    step: int = 1
    activates_first: bool = True
    """Whether a normalization and an activation come before the first convolution, as they do not for a picture."""

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """[B, H / step, W / step, features] of one or several [B, H, W, C_i]."""
        normalize = functools.partial(norm, self.norm, train=train, dtype=self.dtype)
        # Both this and the projection below are then centerd on the same pixels.
        padding = "SAME" if self.step == 1 else "SYMMETRIC"
        conv = functools.partial(Conv, self.features, self.kernel_size, use_bias=self.norm == "none", dtype=self.dtype)
        y = inputs[0] if len(inputs) == 1 else jnp.concatenate(inputs, -1)
        if self.activates_first:
            y = self.activation(normalize(y.shape[-1], name="norm1")(y))
        y = conv(stride=self.step, padding=padding, name="conv1")(y)
        y = self.activation(normalize(self.features, name="norm2")(y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = conv(name="conv2")(y)
        projection = Conv(self.features, 1, self.step, use_bias=False, dtype=self.dtype, name="projection")
        return y + projection(*inputs)
