"""LinkNet (Chaurasia & Culurciello 2017, https://arxiv.org/abs/1707.03718) with any encoder but a Mix Transformer."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.decoders.decoder import Decoder, refuse_encoders
from flaxseg.models.encoders import mix_transformer
from flaxseg.models.layers.conv import ConvNormAct, ConvTranspose
from flaxseg.models.layers.normalization import norm
from flaxseg.models.pretrained.torch_names import TorchNames

LAST_WIDTH = 32
"""Channels of the decoder's output."""


class LinkNetDecoder(Decoder):
    """Blocks that upsample by 2 and add the encoder's feature of that size; `block0` is the coarsest.

    Attributes:
      dtype: float32 or bfloat16, the data type of the computation.
    """

    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"blocks\.(\d)\.block\.0\.0", r"block\1/reduce/conv"),
        (r"blocks\.(\d)\.block\.0\.1", r"block\1/reduce/norm"),
        (r"blocks\.(\d)\.block\.1\.0", r"block\1/up:transposed"),
        (r"blocks\.(\d)\.block\.1\.1", r"block\1/norm"),
        (r"blocks\.(\d)\.block\.2\.0", r"block\1/expand/conv"),
        (r"blocks\.(\d)\.block\.2\.1", r"block\1/expand/norm"),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks that the encoder is not a Mix Transformer."""
        reason = "the reference has no LinkNet with a Mix Transformer; segformer, upernet, fpn and manet support them"
        refuse_encoders(encoder, mix_transformer.ENCODERS, reason=reason)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H, W, LAST_WIDTH], at the image's size."""
        x = features[-1]
        for number, skip in enumerate(features[-2:0:-1]):
            # Where the encoder has no feature there is nothing to add, and the number of channels stays the same.
            x = _Block(skip.shape[-1] or x.shape[-1], self.dtype, name=f"block{number}")(x, train=train)
            x = x + skip if skip.shape[-1] else x
        return _Block(LAST_WIDTH, self.dtype, name=f"block{len(features) - 2}")(x, train=train)


class _Block(nn.Module):
    """A transposed convolution with a quarter of the channels between two 1x1 convolutions."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns features [B, 2 * H, 2 * W, width] of [B, H, W, C]."""
        inner = x.shape[-1] // 4
        x = ConvNormAct(inner, 1, dtype=self.dtype, name="reduce")(x, train=train)
        # The bias has no effect before a normalization, but the reference's weights have it.
        x = ConvTranspose(inner, 4, dtype=self.dtype, name="up")(x)
        x = nn.relu(norm("batch", inner, train=train, dtype=self.dtype)(x))
        return ConvNormAct(self.width, 1, dtype=self.dtype, name="expand")(x, train=train)
