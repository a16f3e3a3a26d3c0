"""The decoder that makes a U-Net of any encoder (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.attention import ChannelAndPlaceAttention
from flaxseg.models.layers.conv import ConvNormAct


class UNetDecoder(nn.Module):
    """Up-samples by 2 (nearest), joins the encoder's feature of that size, and convolves twice, once for each width."""

    widths: tuple[int, ...]
    """Channels of the blocks, the coarsest first; one for each time that the encoder halves the picture."""
    attention: str = "none"
    center: bool = False
    """Whether two convolutions come between encoder and decoder."""
    dtype: Any = jnp.float32

    _torch_names: ClassVar[Renames] = (
        (r"center\.(\d)\.0", r"center\1/conv"),
        (r"center\.(\d)\.1", r"center\1/norm"),
        (r"blocks\.(\d)\.conv(\d)\.0", r"block\1/conv\2/conv"),
        (r"blocks\.(\d)\.conv(\d)\.1", r"block\1/conv\2/norm"),
        *(
            (rf"blocks\.(\d)\.attention(\d)\.attention\.{theirs}", rf"block\1/attention\2/{ours}")
            for theirs, ours in ChannelAndPlaceAttention.torch_names
        ),
    )

    @property
    def torch_names(self) -> Renames:
        """Those of segmentation_models_pytorch, whose last block holds an attention that it has no skip for."""
        return ((rf"blocks\.{len(self.widths) - 1}\.attention1\..*", None), *self._torch_names)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H, W, widths[-1]], at the size of `features[0]`."""
        x = features[-1]
        for number in range(2 * self.center):
            x = ConvNormAct(x.shape[-1], dtype=self.dtype, name=f"center{number}")(x, train=train)
        for number, width in enumerate(self.widths):
            target = features[-2 - number]
            skips = [target] if number + 1 < len(self.widths) else []
            x = ops.resize_nearest(x, (target.shape[1], target.shape[2]))
            x = UNetBlock(width, self.attention, self.dtype, name=f"block{number}")(x, *skips, train=train)
        return x


class UNetBlock(nn.Module):
    """Two convolutions of one width; `attention` "scse" attends to what they join, where that is several, and give."""

    width: int
    attention: str
    dtype: Any

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, width] of one or several [B, H, W, C_i]."""
        attend = self.attention == "scse"
        if attend and len(inputs) > 1:
            joined = jnp.concatenate([x.astype(self.dtype) for x in inputs], -1)
            inputs = (ChannelAndPlaceAttention(dtype=self.dtype, name="attention1")(joined),)
        x = ConvNormAct(self.width, dtype=self.dtype, name="conv1")(*inputs, train=train)
        x = ConvNormAct(self.width, dtype=self.dtype, name="conv2")(x, train=train)
        return ChannelAndPlaceAttention(dtype=self.dtype, name="attention2")(x) if attend else x
