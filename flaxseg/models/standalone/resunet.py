"""Deep Residual U-Net (Zhang et al. 2018, https://arxiv.org/abs/1711.10684)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import DROPOUT_RATE, check_choice, check_integer
from flaxseg.models.arguments import ChannelValues, NormalizationValues, channel_values, check_dtype
from flaxseg.models.layers.conv import ACTIVATIONS, Conv, activation_fn, crop, pad_to_stride
from flaxseg.models.layers.normalization import NORMS, Activation, norm
from flaxseg.models.option_names import names_checked

UPSAMPLINGS = ("nearest", "bilinear")


@names_checked
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
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> "ResUNet":
    """Returns a U-Net of residual units: 8,216,899 parameters for 3 classes and 3 channels.

    Args:
      num_classes: number of classes, the channels of the logits.
      width: channels at full resolution; they double with each level.
      depth: number of times that the resolution is halved.
      kernel_size: height and width of the units' kernels.
      norm: "batch", "group" or "none".
      activation: "relu", "leaky_relu", "elu", "gelu", "silu", "swish" or "hard_swish".
      upsampling: "nearest" or "bilinear", applied to the coarser features before they are concatenated with the skip.
      dropout: dropout rate between the two convolutions of a unit (Zagoruyko and Komodakis 2016,
        https://arxiv.org/abs/1605.07146).
      mean: mean that is subtracted from images with values 0..255: one number, or one per channel; None: 127.5.
      std: standard deviation that the result is divided by: one number, or one per channel; None: 127.5.
      dtype: float32 or bfloat16, the data type of the computation; parameters, statistics and logits are float32.

    Raises:
      ArgumentError: an argument is out of range.
    """
    check_integer("num_classes", num_classes, 1)
    check_integer("width", width, 1)
    check_integer("depth", depth, 1)
    check_integer("kernel_size", kernel_size, 1)
    check_choice("norm", norm, NORMS)
    check_choice("activation", activation, tuple(ACTIVATIONS))
    check_choice("upsampling", upsampling, UPSAMPLINGS)
    DROPOUT_RATE.check("dropout", dropout)
    check_dtype("dtype", dtype)
    return ResUNet(
        num_classes=num_classes,
        widths=tuple(width * 2**level for level in range(depth + 1)),
        kernel_size=kernel_size,
        norm=norm,
        activation=activation,
        upsampling=upsampling,
        dropout=float(dropout),
        mean=channel_values("mean", 127.5 if mean is None else mean),
        std=channel_values("std", 127.5 if std is None else std, positive=True),
        dtype=dtype,
    )


class ResUNet(nn.Module):
    """One residual unit per level in the encoder and one in the decoder. See `resunet`.

    Parameters are named `encoder/level{i}/...`, `decoder/level{i}/...`, `head/...`, with level 0 at full resolution.

    Attributes:
      num_classes: number of classes, the channels of the logits.
      widths: channels of each level, from full resolution.
      kernel_size: height and width of the units' kernels.
      norm: "batch", "group" or "none".
      activation: "relu", "leaky_relu", "elu", "gelu", "silu", "swish" or "hard_swish".
      upsampling: "nearest" or "bilinear".
      dropout: dropout rate between the two convolutions of a unit.
      mean: mean that is subtracted from images with values 0..255: one number, or one per channel.
      std: standard deviation that the result is divided by: one number, or one per channel.
      dtype: float32 or bfloat16, the data type of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int
    widths: tuple[int, ...]
    kernel_size: int
    norm: str
    activation: str
    upsampling: str
    dropout: float
    mean: ChannelValues
    std: ChannelValues
    dtype: Any

    @property
    def stride(self) -> int:
        """Height and width are padded to multiples of this number."""
        return 2 ** (len(self.widths) - 1)

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
        unit = {"kernel_size": self.kernel_size, "norm": self.norm, "dropout": self.dropout, "dtype": self.dtype}
        unit["activation"] = activation_fn(self.activation)
        features = _Encoder(self.widths, unit, name="encoder")(pad_to_stride(x, self.stride), train=train)
        x = _Decoder(self.upsampling, unit, name="decoder")(features, train=train)
        # In float32 regardless of `dtype`, because rounding errors of the logits would affect the loss.
        return crop(Conv(self.num_classes, 1, name="head")(x), size)


class _Encoder(nn.Module):
    """One residual unit at each level, with stride 2 between levels."""

    widths: tuple[int, ...]
    unit: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        features = []
        for level, width in enumerate(self.widths):
            stride = 2 if level else 1
            unit = _Unit(width, **self.unit, stride=stride, preactivated=level > 0, name=f"level{level}")
            x = unit(x, train=train)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """Upsamples from the coarsest level to full resolution."""

    upsampling: str
    unit: Mapping[str, Any]

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        resize = {"nearest": ops.resize_nearest, "bilinear": ops.resize_bilinear}[self.upsampling]
        x = features[-1]
        for level in reversed(range(len(features) - 1)):
            skip = features[level]
            unit = _Unit(skip.shape[-1], **self.unit, name=f"level{level}")
            x = resize(x, (skip.shape[1], skip.shape[2]))
            x = unit(x, skip, train=train)
        return x


class _Unit(nn.Module):
    """A pre-activation residual unit: normalization, activation and convolution twice, plus a projection of the input.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernels.
      norm: "batch", "group" or "none".
      activation: the activation function.
      dropout: dropout rate between the two convolutions.
      dtype: float32 or bfloat16, the data type of the computation.
      stride: stride of the first convolution and of the projection.
      preactivated: apply normalization and activation before the first convolution; not to an image.
    """

    features: int
    kernel_size: int
    norm: str
    activation: Activation
    dropout: float
    dtype: Any
    stride: int = 1
    preactivated: bool = True

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Returns features [B, H / stride, W / stride, features] of one or several inputs [B, H, W, C_i]."""
        normalize = functools.partial(norm, self.norm, train=train, dtype=self.dtype)
        # SYMMETRIC padding centers the kernels of a strided convolution and of the projection on the same pixels.
        padding = "SAME" if self.stride == 1 else "SYMMETRIC"
        conv = functools.partial(Conv, self.features, self.kernel_size, use_bias=self.norm == "none", dtype=self.dtype)
        y = inputs[0] if len(inputs) == 1 else jnp.concatenate(inputs, -1)
        if self.preactivated:
            y = self.activation(normalize(y.shape[-1], name="norm1")(y))
        y = conv(stride=self.stride, padding=padding, name="conv1")(y)
        y = self.activation(normalize(self.features, name="norm2")(y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = conv(name="conv2")(y)
        projection = Conv(self.features, 1, self.stride, use_bias=False, dtype=self.dtype, name="projection")
        return y + projection(*inputs)
