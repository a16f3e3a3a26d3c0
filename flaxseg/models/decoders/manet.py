"""MA-Net (Fan et al. 2020, https://ieeexplore.ieee.org/document/9201310) with any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.errors import check_integer
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.decoders.unet import UNetBlock
from flaxseg.models.layers.conv import Conv, ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames

REDUCTION = 16
"""Factor by which a gate reduces the channels."""


class MANetDecoder(Decoder):
    """A U-Net decoder with attention between all pixels of the coarsest feature, and channel gates on its skips.

    Where the encoder has no feature, the block is that of a U-Net. The attention needs memory for the square of the
    number of pixels of the coarsest feature: 1,024 pixels for images of 1024x1024.

    Attributes:
      decoder_channels: channels of the decoder's blocks, from the coarsest; one for each halving of the encoder.
      attention_channels: channels of the embeddings that the attention compares pixels by.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    attention_channels: int = 64
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
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

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options, and that there is a block for each halving of the encoder."""
        check_channels("decoder_channels", self.decoder_channels, count=len(channels))
        check_integer("attention_channels", self.attention_channels, 1)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H, W, decoder_channels[-1]], at the image's size."""
        x = PositionAttention(self.attention_channels, self.dtype, name="center")(features[-1])
        for number, width in enumerate(self.decoder_channels):
            fine = features[-2 - number]
            if number + 1 < len(self.decoder_channels) and fine.shape[-1]:
                x = Fusion(width, self.dtype, name=f"block{number}")(x, fine, train=train)
            else:
                size = fine.shape[1], fine.shape[2]
                x = UNetBlock(width, "none", self.dtype, name=f"block{number}")(x, size=size, train=train)
        return x


class PositionAttention(nn.Module):
    """Position-wise attention as the reference computes it: adds attention-weighted values to the input.

    The softmax is over all pairs of pixels: the weights of all pairs, not those of each pixel, sum to 1.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H, W, C] of [B, H, W, C]."""
        batch, height, width, features = x.shape

        def pixels(name: str, channels: int, kernel_size: int) -> jax.Array:
            y = Conv(channels, kernel_size, dtype=self.dtype, name=name)(x)
            return y.reshape(batch, height * width, channels)

        center, top = pixels("center", self.channels, 1), pixels("top", self.channels, 1)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        scores = jnp.einsum("bpc,bqc->bpq", center, top, preferred_element_type=wide)
        # Written out, because the conversion to ONNX supports no softmax over two axes.
        powers = jnp.exp(scores - jax.lax.stop_gradient(scores.max((1, 2), keepdims=True)))
        weights = (powers / powers.sum((1, 2), keepdims=True)).astype(self.dtype)
        attended = weights @ pixels("bottom", features, 3)
        # The reference reinterprets [B, H * W, C] as [B, C, H, W]; weights trained with it rely on that.
        attended = attended.reshape(batch, features, height, width).transpose(0, 2, 3, 1)
        return Conv(features, dtype=self.dtype, name="out")(x + attended)


class Fusion(nn.Module):
    """Multi-scale fusion attention: gates a coarse feature map by both maps, and fuses it with the fine one."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, coarse: jax.Array, fine: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, 2 * H, 2 * W, width] of [B, H, W, C] and [B, 2 * H, 2 * W, C']."""
        channels = fine.shape[-1]
        x = ConvNormAct(coarse.shape[-1], dtype=self.dtype, name="coarse0")(coarse, train=train)
        x = ConvNormAct(channels, 1, dtype=self.dtype, name="coarse1")(x, train=train)
        # Nearest-neighbor upsampling commutes with the gates, and before it there are four times fewer pixels.
        gate = _Gate(self.dtype, name="coarse_gate")(x) + _Gate(self.dtype, name="fine_gate")(fine)
        size = fine.shape[1], fine.shape[2]
        x = ConvNormAct(self.width, dtype=self.dtype, name="conv1")(x * gate, fine, size=size, train=train)
        return ConvNormAct(self.width, dtype=self.dtype, name="conv2")(x, train=train)


class _Gate(nn.Module):
    """The weights of squeeze and excitation (Hu et al. 2017, https://arxiv.org/abs/1709.01507)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns weights [B, 1, 1, C] between 0 and 1 for features [B, H, W, C]."""
        channels = x.shape[-1]
        pooled = x.mean((1, 2), keepdims=True)
        squeezed = nn.relu(Conv(max(channels // REDUCTION, 1), 1, dtype=self.dtype, name="reduce")(pooled))
        return nn.sigmoid(Conv(channels, 1, dtype=self.dtype, name="expand")(squeezed))
