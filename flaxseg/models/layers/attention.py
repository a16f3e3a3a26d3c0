"""Attention over channels and pixels that encoders and decoders use as a part."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.layers.conv import Conv
from flaxseg.models.layers.normalization import Activation
from flaxseg.models.pretrained.torch_names import TorchNames


class SqueezeExcitation(nn.Module):
    """Squeeze and excitation: weights channels by a function of their means (Hu et al. 2017, https://arxiv.org/abs/1709.01507).

    Attributes:
      reduced: number of inner channels.
      activation: the function of the inner channels.
      gate: the function that maps to weights.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    reduced: int
    activation: Activation = nn.relu
    gate: Activation = nn.sigmoid
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the weighted features, [B, H, W, C], of features [B, H, W, C]."""
        pooled = x.mean((1, 2), keepdims=True)
        squeezed = self.activation(Conv(self.reduced, 1, dtype=self.dtype, name="reduce")(pooled))
        return x * self.gate(Conv(x.shape[-1], 1, dtype=self.dtype, name="expand")(squeezed))


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al. 2018, https://arxiv.org/abs/1803.02579).

    Attributes:
      reduction: factor by which the channel branch reduces the channels.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    reduction: int = 16
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = ((r"cSE\.1", "reduce"), (r"cSE\.3", "expand"), (r"sSE\.0", "place"))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the weighted features, [B, H, W, C], of features [B, H, W, C]."""
        pooled = x.mean((1, 2), keepdims=True)
        squeezed = nn.relu(Conv(max(x.shape[-1] // self.reduction, 1), 1, dtype=self.dtype, name="reduce")(pooled))
        channel = nn.sigmoid(Conv(x.shape[-1], 1, dtype=self.dtype, name="expand")(squeezed))
        place = nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="place")(x))
        return x * channel + x * place


class AttentionGate(nn.Module):
    """Additive attention that weights each pixel of a skip connection by the decoder's coarser features.

    The two-dimensional gate of Oktay et al. 2018, https://arxiv.org/abs/1804.03999: `sigmoid(psi(relu(theta(skip) +
    phi(signal))))`, with 1x1 convolutions; theta has stride 2, which brings the skip to the signal's size. The gate
    has as many inner channels as the skip.

    Attributes:
      dtype: float32 or bfloat16, the data type of the computation.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, skip: jax.Array, signal: jax.Array) -> jax.Array:
        """Returns the skip with each pixel multiplied by its weight between 0 and 1.

        Args:
          skip: the encoder's features, [B, 2 * H, 2 * W, C].
          signal: the decoder's coarser features, [B, H, W, D].

        Returns:
          [B, 2 * H, 2 * W, C].
        """
        width = skip.shape[-1]
        theta = Conv(width, 1, 2, use_bias=False, dtype=self.dtype, name="theta")(skip)
        phi = Conv(width, 1, dtype=self.dtype, name="phi")(signal)
        weight = nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="psi")(nn.relu(theta + phi)))
        return skip * ops.resize_bilinear(weight, (skip.shape[1], skip.shape[2]))
