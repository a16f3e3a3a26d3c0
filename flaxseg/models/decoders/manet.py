"""MA-Net (Fan et al. 2020, https://ieeexplore.ieee.org/document/9201310) around any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import check_integer, check_widths
from flaxseg.models.decoders.unet_decoder import UNetBlock
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import Conv, ConvNormAct

REDUCTION = 16
"""How many times fewer channels a gate has inside."""


def manet(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    attention_channels: int = 64,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A MA-Net: a U-Net with attention among the pixels of the coarsest feature, and gates on channels that it joins.

    The attention needs memory for the square of the pixels at the coarsest feature: pictures of 1024 x 1024 have 1024.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      encoder_depth: how often the encoder halves the picture.
      decoder_channels: channels of the decoder's blocks, the coarsest first.
      attention_channels: channels that pixels are compared by.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    widths = check_widths("decoder_channels", decoder_channels, count=encoder_depth)
    check_integer("attention_channels", attention_channels, 1)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: MANetDecoder(widths, attention_channels, dtype=dtype),
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
    )


class MANetDecoder(nn.Module):
    """Attention, then up-sampling by 2 once for each width; what has no feature to fuse is a U-Net's block."""

    widths: tuple[int, ...]
    """Channels of the blocks, the coarsest first; one for each time that the encoder halves the picture."""
    attention_channels: int = 64
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"center\.(\w+)_conv", r"center/\1"),
        (r"blocks\.(\d)\.hl_conv\.(\d)\.0", r"block\1/coarse\2/conv"),
        (r"blocks\.(\d)\.hl_conv\.(\d)\.1", r"block\1/coarse\2/norm"),
        (r"blocks\.(\d)\.SE_hl\.1", r"block\1/coarse_gate/reduce"),
        (r"blocks\.(\d)\.SE_hl\.3", r"block\1/coarse_gate/expand"),
        (r"blocks\.(\d)\.SE_ll\.1", r"block\1/fine_gate/reduce"),
        (r"blocks\.(\d)\.SE_ll\.3", r"block\1/fine_gate/expand"),
        (r"blocks\.(\d)\.conv(\d)\.0", r"block\1/conv\2/conv"),
        (r"blocks\.(\d)\.conv(\d)\.1", r"block\1/conv\2/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H, W, widths[-1]], at the size of `features[0]`."""
        x = PositionAttention(self.attention_channels, self.dtype, name="center")(features[-1])
        for number, width in enumerate(self.widths):
            fine = features[-2 - number]
            if number + 1 < len(self.widths) and fine.shape[-1]:
                x = Fusion(width, self.dtype, name=f"block{number}")(x, fine, train=train)
            else:
                x = ops.resize_nearest(x, (fine.shape[1], fine.shape[2]))
                x = UNetBlock(width, "none", self.dtype, name=f"block{number}")(x, train=train)
        return x


class PositionAttention(nn.Module):
    """Position-wise attention, as the reference computes it: to what comes in are added means over all of its pixels.

    The weights of all pairs of pixels have the sum 1, not those of each pixel.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] of the same."""
        batch, height, width, features = x.shape

        def pixels(name: str, channels: int, kernel_size: int) -> jax.Array:
            y = Conv(channels, kernel_size, dtype=self.dtype, name=name)(x)
            return y.reshape(batch, height * width, channels)

        center, top = pixels("center", self.channels, 1), pixels("top", self.channels, 1)
        scores = jnp.einsum("bpc,bqc->bpq", center, top, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores, axis=(1, 2)).astype(self.dtype)
        attended = weights @ pixels("bottom", features, 3)
        # The reference reads the memory of [B, H * W, C] as [B, C, H, W]; weights trained with it rely on that.
        attended = attended.reshape(batch, features, height, width).transpose(0, 2, 3, 1)
        return Conv(features, dtype=self.dtype, name="out")(x + attended)


class Fusion(nn.Module):
    """Multi-scale fusion attention: a coarser map, gated by its and a finer feature's channels, joins the feature."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, coarse: jax.Array, fine: jax.Array, *, train: bool) -> jax.Array:
        """[B, 2 * H, 2 * W, width] of [B, H, W, C] and [B, 2 * H, 2 * W, C']."""
        channels = fine.shape[-1]
        x = ConvNormAct(coarse.shape[-1], dtype=self.dtype, name="coarse0")(coarse, train=train)
        x = ConvNormAct(channels, 1, dtype=self.dtype, name="coarse1")(x, train=train)
        # Repeating pixels changes neither their mean nor what the gates do: before it there are four times fewer.
        gate = _Gate(self.dtype, name="coarse_gate")(x) + _Gate(self.dtype, name="fine_gate")(fine)
        x = ops.resize_nearest(x * gate, (fine.shape[1], fine.shape[2]))
        x = ConvNormAct(self.width, dtype=self.dtype, name="conv1")(x, fine, train=train)
        return ConvNormAct(self.width, dtype=self.dtype, name="conv2")(x, train=train)


class _Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2017, https://arxiv.org/abs/1709.01507) without the product."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, 1, 1, C], between 0 and 1, of [B, H, W, C]."""
        channels = x.shape[-1]
        pooled = x.mean((1, 2), keepdims=True)
        squeezed = nn.relu(Conv(max(channels // REDUCTION, 1), 1, dtype=self.dtype, name="reduce")(pooled))
        return nn.sigmoid(Conv(channels, 1, dtype=self.dtype, name="expand")(squeezed))
