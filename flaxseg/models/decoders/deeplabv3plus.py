"""DeepLabV3+ (Chen et al. 2018, https://arxiv.org/abs/1802.02611) around any encoder that can be dilated."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import check_boolean, check_integer, check_rate, check_widths
from flaxseg.models.decoders.aspp import ASPP, SeparableConvNormAct
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames, check_output_stride
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import below

OUTPUT_STRIDES = (8, 16)

SKIP_CHANNELS = 48
"""What the feature at 1/4 of the picture is reduced to, so that it does not outweigh the coarse one (the paper's)."""


def deeplabv3plus(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    output_stride: int = 16,
    decoder_channels: int = 256,
    atrous_rates: Sequence[int] = (12, 24, 36),
    separable: bool = True,
    dropout: float = 0.5,
    auxiliary_weight: float = 0.0,
    auxiliary_channels: int = 256,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A DeepLabV3+: convolutions of several dilations on the encoder's last feature, joined with that at 1/4.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS, of an encoder that can be dilated.
      encoder_depth: how often the encoder would halve the picture, were it not dilated.
      output_stride: 8 or 16: the features are at 1 / output_stride of the picture.
      decoder_channels: channels of every map in the decoder but the feature at 1/4.
      atrous_rates: dilation of the three 3x3 convolutions; the paper's for an output stride of 16 are 6, 12 and 18.
      separable: whether these are depthwise convolutions, with a 1x1 convolution after each. Those after them are.
      dropout: dropout rate after what joins them.
      auxiliary_weight: what the training step multiplies the loss of a head on the last feature but one by; 0: there
        is none.
      auxiliary_channels: inner channels of that head.
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
    check_boolean("separable", separable)
    check_rate("dropout", dropout)
    check_integer("auxiliary_channels", auxiliary_channels, 1)
    rates = check_widths("atrous_rates", atrous_rates, count=3)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: DeepLabV3PlusDecoder(decoder_channels, rates, separable, dropout, dtype=dtype),
        encoder_depth=encoder_depth,
        output_stride=output_stride,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        auxiliary_weight=auxiliary_weight,
        auxiliary_channels=auxiliary_channels,
        head_kernel_size=1,
        upsampling=4,
    )


class DeepLabV3PlusDecoder(nn.Module):
    """Atrous spatial pyramid pooling of the last feature, joined with the one at 1/4 of the picture."""

    channels: int
    rates: tuple[int, ...]
    separable: bool
    dropout: float
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        *below(r"aspp\.0\.", "aspp", ASPP.torch_names),
        (r"aspp\.1\.0", r"refine/depthwise"),
        (r"aspp\.1\.1", r"refine/pointwise"),
        (r"aspp\.2", r"refine/norm"),
        (r"block1\.0", r"skip/conv"),
        (r"block1\.1", r"skip/norm"),
        (r"block2\.0\.0", r"fuse/depthwise"),
        (r"block2\.0\.1", r"fuse/pointwise"),
        (r"block2\.1", r"fuse/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H / 4, W / 4, channels] of features that begin with a picture's of [B, H, W, C]."""
        aspp = ASPP(self.channels, self.rates, self.separable, self.dropout, self.dtype, name="aspp")
        x = aspp(features[-1], train=train)
        x = SeparableConvNormAct(self.channels, dtype=self.dtype, name="refine")(x, train=train)
        skip = ConvNormAct(SKIP_CHANNELS, 1, dtype=self.dtype, name="skip")(features[2], train=train)
        x = ops.resize_bilinear(x, (skip.shape[1], skip.shape[2]), align_corners=True)
        joined = jnp.concatenate([x, skip], -1)
        return SeparableConvNormAct(self.channels, dtype=self.dtype, name="fuse")(joined, train=train)
