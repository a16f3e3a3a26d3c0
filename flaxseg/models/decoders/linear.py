"""A linear classifier of the features of each patch, as DINOv2 (https://arxiv.org/abs/2304.07193) is evaluated."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.errors import ArgumentError, check_boolean
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.encoders import vit
from flaxseg.models.encoders.vit import VisionTransformer
from flaxseg.models.layers.normalization import norm

_SCALES = 4
"""Number of blocks whose features are used together."""


class LinearDecoder(Decoder):
    """Batch normalization of the encoder's last feature, or of several; the head is the linear classifier.

    With a vision transformer, the feature is that of its last block. Freeze `encoder` to train the classifier alone;
    its features can then be cached with `data.cache=features`.

    Attributes:
      multiscale: concatenate the features of the last four blocks of a vision transformer (DINOv2's linear evaluation
        "+ms" uses them, larger images, and scales at test time).
      batch_norm: normalize the features by batch statistics.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    multiscale: bool = False
    batch_norm: bool = True
    dtype: Any = jnp.float32

    takes_patches = True

    def adapt(self, encoder: VisionTransformer) -> VisionTransformer:
        """Returns the vision transformer with the features of its last block, or of its last four."""
        last = encoder.taken[-1]
        first = last - _SCALES + 1 if self.multiscale else last
        return dataclasses.replace(encoder, feature_blocks=tuple(range(first, last + 1)))

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options, and that they fit the encoder."""
        check_boolean("multiscale", self.multiscale)
        check_boolean("batch_norm", self.batch_norm)
        if self.multiscale and encoder not in vit.ENCODERS:
            raise ArgumentError(
                "multiscale",
                self.multiscale,
                f"encoder {encoder} has features of different sizes; use a vision transformer, such as "
                f"{next(iter(vit.ENCODERS))}, or another decoder, such as segformer or upernet",
            )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, h, w, C], at the size of the last feature."""
        used = features[1:] if self.multiscale else features[-1:]
        joined = jnp.concatenate(used, -1) if len(used) > 1 else used[0]
        return norm("batch" if self.batch_norm else "none", joined.shape[-1], train=train, dtype=self.dtype)(joined)
