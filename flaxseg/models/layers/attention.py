"""Attention over channels and places that decoders use as a part."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Renames
from flaxseg.models.layers.conv import Conv


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


class AttentionGate(nn.Module):
    """Weights the places of a skip by what the decoder knows of them at half its size: additive attention.

    The two-dimensional gate of Oktay et al. 2018, https://arxiv.org/abs/1804.03999: `sigmoid(psi(relu(theta(skip) +
    phi(signal))))`, of 1x1 convolutions, theta with the step that brings the skip to the signal's size. It has as many
    inner channels as the skip.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, skip: jax.Array, signal: jax.Array) -> jax.Array:
        """`skip`, [B, 2 * H, 2 * W, C], each pixel times a number between 0 and 1, for `signal`, [B, H, W, D]."""
        width = skip.shape[-1]
        theta = Conv(width, 1, 2, use_bias=False, dtype=self.dtype, name="theta")(skip)
        phi = Conv(width, 1, dtype=self.dtype, name="phi")(signal)
        share = nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="psi")(nn.relu(theta + phi)))
        return skip * ops.resize_bilinear(share, (skip.shape[1], skip.shape[2]))
