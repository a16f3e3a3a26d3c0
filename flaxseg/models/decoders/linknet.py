"""LinkNet (Chaurasia & Culurciello 2017, https://arxiv.org/abs/1707.03718) around any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.arguments import check_usable
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames, mix_transformer
from flaxseg.models.layers.conv import ConvNormAct, ConvTranspose
from flaxseg.models.layers.normalization import norm

LAST_WIDTH = 32
"""Channels of the map that the head is given."""


def linknet(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A LinkNet: a light decoder that adds the encoder's features where others join them.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS, but no mix transformer.
      encoder_depth: how often the encoder halves the picture.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    why = "the reference has no LinkNet of a mix transformer; segformer, upernet, fpn and manet take them"
    check_usable("encoder", encoder, mix_transformer.ENCODERS, why=why)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: LinkNetDecoder(dtype=dtype),
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        head_kernel_size=1,
    )


class LinkNetDecoder(nn.Module):
    """Up-samples by 2 to the channels of the encoder's feature of that size, and adds it; `block0` is the coarsest."""

    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"blocks\.(\d)\.block\.0\.0", r"block\1/reduce/conv"),
        (r"blocks\.(\d)\.block\.0\.1", r"block\1/reduce/norm"),
        (r"blocks\.(\d)\.block\.1\.0", r"block\1/up:transposed"),
        (r"blocks\.(\d)\.block\.1\.1", r"block\1/norm"),
        (r"blocks\.(\d)\.block\.2\.0", r"block\1/expand/conv"),
        (r"blocks\.(\d)\.block\.2\.1", r"block\1/expand/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H, W, LAST_WIDTH], at the size of `features[0]`."""
        x = features[-1]
        for number, skip in enumerate(features[-2:0:-1]):
            # Where the encoder has no feature there is nothing to add, and the channels stay.
            x = _Block(skip.shape[-1] or x.shape[-1], self.dtype, name=f"block{number}")(x, train=train)
            x = x + skip if skip.shape[-1] else x
        return _Block(LAST_WIDTH, self.dtype, name=f"block{len(features) - 2}")(x, train=train)


class _Block(nn.Module):
    """Up-sampling by 2 with a quarter of the channels, between two layers within a pixel."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, 2 * H, 2 * W, width] of [B, H, W, C]."""
        inner = x.shape[-1] // 4
        x = ConvNormAct(inner, 1, dtype=self.dtype, name="reduce")(x, train=train)
        # The bias is of no use before a normalization, but the reference's weights have it.
        x = ConvTranspose(inner, 4, dtype=self.dtype, name="up")(x)
        x = nn.relu(norm("batch", inner, train=train, dtype=self.dtype)(x))
        return ConvNormAct(self.width, 1, dtype=self.dtype, name="expand")(x, train=train)
