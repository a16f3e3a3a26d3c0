"""SegFormer (Xie et al. 2021, https://arxiv.org/abs/2105.15203) with any encoder; the paper's are mit_b0 to mit_b5."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import kernel_initializer
from flaxseg.models.layers.dense import Dense
from flaxseg.models.layers.normalization import norm
from flaxseg.models.pretrained.torch_names import TorchNames


class SegFormerDecoder(Decoder):
    """Projects all of the encoder's features to the same channels, and fuses them at 1/4 of the image's size.

    Parameters are named `linear{i}`, with i = 0 for the coarsest feature, and `fuse`.

    Attributes:
      decoder_channels: channels of the projected features and of the output.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    decoder_channels: int = 256
    dtype: Any = jnp.float32

    torch_names: ClassVar[TorchNames] = (
        (r"mlp_stage\.(\d)\.linear", r"linear\1"),
        (r"fuse_stage\.0", r"fuse/conv"),
        (r"fuse_stage\.1", r"fuse/norm"),
    )

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        check_integer("decoder_channels", self.decoder_channels, 1)

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns [B, H / 4, W / 4, decoder_channels]."""
        size = features[0].shape[1] // 4, features[0].shape[2] // 4
        used = [feature for feature in reversed(features[1:]) if feature.shape[-1]]
        dense = [Dense(self.decoder_channels, dtype=self.dtype, name=f"linear{i}") for i in range(len(used))]
        # Projection and resizing commute: features are projected at whichever size has fewer pixels.
        smaller = [x if x.shape[1] <= size[0] else ops.resize_bilinear(x, size) for x in used]
        maps = [layer(x) for layer, x in zip(dense, smaller, strict=True)]
        return _Fusion(self.decoder_channels, size, self.dtype, name="fuse")(*maps, train=train)


class _Fusion(nn.Module):
    """A 1x1 convolution of several feature maps, resized to `size` and concatenated; batch normalization, ReLU."""

    channels: int
    size: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, *maps: jax.Array, train: bool) -> jax.Array:
        """Returns features [B, *size, channels] of several feature maps [B, h_i, w_i, C_i]."""
        mixed = _Mixing(self.channels, self.size, self.dtype, name="conv")(*maps)
        return nn.relu(norm("batch", self.channels, train=train, dtype=self.dtype)(mixed))


class _Mixing(nn.Module):
    """A 1x1 convolution of resized and concatenated feature maps, which convolves each map before resizing it."""

    channels: int
    size: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, *maps: jax.Array) -> jax.Array:
        widths = [x.shape[-1] for x in maps]
        kernel = self.param("kernel", kernel_initializer, (1, 1, sum(widths), self.channels), jnp.float32)
        ends = [sum(widths[: i + 1]) for i in range(len(widths) - 1)]
        kernels = jnp.split(kernel.astype(self.dtype), ends, axis=2)
        mixed = [ops.conv(x, part) for x, part in zip(maps, kernels, strict=True)]
        return sum((ops.resize_bilinear(x, self.size) for x in mixed[1:]), ops.resize_bilinear(mixed[0], self.size))
