"""Pyramid attention network (Li et al. 2018, https://arxiv.org/abs/1805.10180) around any encoder."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import check_integer
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames, check_output_stride
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import below

OUTPUT_STRIDES = (16, 32)


def pan(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    output_stride: int = 16,
    decoder_channels: int = 32,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A PAN: a pyramid that weighs the encoder's last feature, and finer ones weighed by what the coarser hold.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      encoder_depth: how often the encoder halves the picture, or would, were it not dilated.
      output_stride: 16 or 32: the last feature is at 1 / output_stride of the picture. With 16 the encoder has to be
        one that can be dilated.
      decoder_channels: channels of every map in the decoder.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    check_output_stride(output_stride, OUTPUT_STRIDES, encoder=encoder)
    check_integer("decoder_channels", decoder_channels, 1)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: PANDecoder(decoder_channels, dtype=dtype),
        encoder_depth=encoder_depth,
        output_stride=output_stride,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        upsampling=4,
    )


class FeaturePyramidAttention(nn.Module):
    """A map weighed, pixel by pixel, by a pyramid of three scales of it, plus its mean.

    Convolutions have a bias although a normalization follows, as the reference's weights do.
    """

    channels: int
    kernel_sizes: tuple[int, ...] = (7, 5, 3)
    """At 1/2, 1/4 and 1/8 of the map's sides."""
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = tuple(
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
        """[B, H, W, channels] of [B, H, W, C]."""
        layer = functools.partial(ConvNormAct, use_bias=True, dtype=self.dtype)
        middle = layer(self.channels, 1, name="middle")(x, train=train)
        mean = layer(self.channels, 1, name="pooling")(ops.adaptive_average_pool(x, 1), train=train)
        scales = []
        for number, kernel_size in enumerate(self.kernel_sizes, 1):
            x = layer(1, kernel_size, name=f"down{number}")(_halved(x), train=train)
            scales.append(x)
        weights: list[jax.Array] = []
        for number in range(len(scales), 0, -1):
            own = layer(1, self.kernel_sizes[number - 1], name=f"up{number}")(scales[number - 1], train=train)
            weights.append(own + _resized_to(own, weights[-1]) if weights else own)
        return middle * _resized_to(middle, weights[-1]) + mean


class GlobalAttentionUpsample(nn.Module):
    """A coarse map up-sampled, plus a finer one whose channels are weighed by the coarse one's means."""

    channels: int
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"conv1\.1\.conv", "gate/conv"),
        (r"conv1\.1\.bn", "gate/norm"),
        (r"conv2\.conv", "detail/conv"),
        (r"conv2\.bn", "detail/norm"),
    )

    @nn.compact
    def __call__(self, fine: jax.Array, coarse: jax.Array, *, train: bool) -> jax.Array:
        """[B, H, W, channels] of [B, H, W, C] and [B, h, w, channels]."""
        layer = functools.partial(ConvNormAct, self.channels, use_bias=True, dtype=self.dtype)
        gate = layer(1, activation=nn.sigmoid, name="gate")(ops.adaptive_average_pool(coarse, 1), train=train)
        return _resized_to(fine, coarse) + gate * layer(3, name="detail")(fine, train=train)


class PANDecoder(nn.Module):
    """`attention` on the last feature, then `upsample{i}` with each finer one up to that at 1/4, which has i = 1."""

    channels: int
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        *below(r"fpa\.", "attention", FeaturePyramidAttention.torch_names),
        *below(r"gau(\d)\.", r"upsample\1", GlobalAttentionUpsample.torch_names),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H / 4, W / 4, channels] of features that begin with a picture's of [B, H, W, C]."""
        x = FeaturePyramidAttention(self.channels, dtype=self.dtype, name="attention")(features[-1], train=train)
        finer = features[2:-1]
        for number in range(len(finer), 0, -1):
            block = GlobalAttentionUpsample(self.channels, dtype=self.dtype, name=f"upsample{number}")
            x = block(finer[number - 1], x, train=train)
        return x


def _halved(x: jax.Array) -> jax.Array:
    """The maximum of each 2x2 block; the last row or column that is left stays, so that a picture can be any size."""
    rows, columns = ((0, int(length == 1)) for length in x.shape[1:3])
    return ops.max_pool(jnp.pad(x, ((0, 0), rows, columns, (0, 0)), mode="edge"))


def _resized_to(target: jax.Array, x: jax.Array) -> jax.Array:
    """`x` at the height and width of `target`."""
    return ops.resize_bilinear(x, (target.shape[1], target.shape[2]), align_corners=True)
