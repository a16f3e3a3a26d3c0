"""U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) with any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import check_choice
from flaxseg.models.arguments import check_channels
from flaxseg.models.decoders.decoder import ATTENTIONS, Decoder
from flaxseg.models.layers.attention import SCSE
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.torch_names import TorchNames


class UNetDecoder(Decoder):
    """Blocks that upsample by 2, concatenate the encoder's feature of that size, and convolve twice.

    Attributes:
      decoder_channels: channels of the decoder's blocks, from the coarsest; one for each halving of the encoder.
      attention: "scse" adds concurrent spatial and channel squeeze and excitation to the decoder's blocks; "none".
      unpooled_features: put two more convolutions between the encoder and the decoder, as the last feature of an
        encoder that ends with a pooling has had no convolutions at its size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    attention: str = "none"
    unpooled_features: bool = False
    dtype: Any = jnp.float32

    _torch_names: ClassVar[TorchNames] = (
        (r"center\.(\d)\.0", r"center\1/conv"),
        (r"center\.(\d)\.1", r"center\1/norm"),
        (r"blocks\.(\d)\.conv(\d)\.0", r"block\1/conv\2/conv"),
        (r"blocks\.(\d)\.conv(\d)\.1", r"block\1/conv\2/norm"),
        *(
            (rf"blocks\.(\d)\.attention(\d)\.attention\.{theirs}", rf"block\1/attention\2/{ours}")
            for theirs, ours in SCSE.torch_names
        ),
    )

    @property
    def torch_names(self) -> TorchNames:  # type: ignore[override]
        """The modules of segmentation_models_pytorch, whose last block has an attention that it does not use."""
        return ((rf"blocks\.{len(self.decoder_channels) - 1}\.attention1\..*", None), *self._torch_names)

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options, and that there is a block for each halving of the encoder."""
        check_choice("attention", self.attention, ATTENTIONS)
        check_channels("decoder_channels", self.decoder_channels, count=len(channels))

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H, W, decoder_channels[-1]], at the image's size."""
        x = features[-1]
        for number in range(2 * self.unpooled_features):
            x = ConvNormAct(x.shape[-1], dtype=self.dtype, name=f"center{number}")(x, train=train)
        for number, width in enumerate(self.decoder_channels):
            target = features[-2 - number]
            skips = [target] if number + 1 < len(self.decoder_channels) else []
            size = target.shape[1], target.shape[2]
            x = UNetBlock(width, self.attention, self.dtype, name=f"block{number}")(x, *skips, size=size, train=train)
        return x


class UNetBlock(nn.Module):
    """Two convolutions of `width` channels, after its first input is resized to the size of the others.

    With `attention` "scse", attention weights their output and, if there are several inputs, their input.
    """

    width: int
    attention: str
    dtype: Any

    @nn.compact
    def __call__(self, *inputs: jax.Array, size: tuple[int, int], train: bool) -> jax.Array:
        """Returns features [B, *size, width] of an input [B, h, w, C] and others [B, *size, C_i]."""
        attend = self.attention == "scse"
        if attend and len(inputs) > 1:
            same_size = (ops.resize_nearest(inputs[0], size), *inputs[1:])
            joined = jnp.concatenate([x.astype(self.dtype) for x in same_size], -1)
            inputs = (SCSE(dtype=self.dtype, name="attention1")(joined),)
        x = ConvNormAct(self.width, dtype=self.dtype, name="conv1")(*inputs, size=size, train=train)
        x = ConvNormAct(self.width, dtype=self.dtype, name="conv2")(x, train=train)
        return SCSE(dtype=self.dtype, name="attention2")(x) if attend else x
