"""Attention over channels and places that decoders use as a part."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.encoders.encoder import Renames
from flaxseg.models.layers import Conv


class ChannelAndPlaceAttention(nn.Module):
    """Concurrent spatial and channel squeeze and excitation, scSE (Roy et al. 2018, https://arxiv.org/abs/1803.02579)."""

    reduction: int = 16
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = ((r"cSE\.1", "reduce"), (r"cSE\.3", "expand"), (r"sSE\.0", "place"))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] of the same."""
        pooled = x.mean((1, 2), keepdims=True)
        squeezed = nn.relu(Conv(max(x.shape[-1] // self.reduction, 1), 1, dtype=self.dtype, name="reduce")(pooled))
        channel = nn.sigmoid(Conv(x.shape[-1], 1, dtype=self.dtype, name="expand")(squeezed))
        place = nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="place")(x))
        return x * channel + x * place
