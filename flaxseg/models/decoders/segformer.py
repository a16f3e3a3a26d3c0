"""SegFormer (Xie et al. 2021, https://arxiv.org/abs/2105.15203) around any encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.arguments import check_integer
from flaxseg.models.encoder_decoder import EncoderDecoder, NormalizationValues, encoder_decoder
from flaxseg.models.encoders import Renames
from flaxseg.models.layers.conv import kernel_initializer
from flaxseg.models.layers.normalization import norm


def segformer(
    *,
    num_classes: int,
    encoder: str = "resnet34",
    encoder_depth: int = 5,
    decoder_channels: int = 256,
    remat: bool = False,
    image_classes: int = 0,
    mean: NormalizationValues = None,
    std: NormalizationValues = None,
    dtype: Any = jnp.float32,
) -> EncoderDecoder:
    """A SegFormer: each of the encoder's features through one layer, all at 1/4 of the picture, and one layer more.

    That of the paper has one of the encoders mit_b0 to mit_b5.

    Args:
      num_classes: channels of the logits.
      encoder: a name of ENCODERS.
      encoder_depth: how often the encoder halves the picture.
      decoder_channels: channels of the layers.
      remat: as of `encoder_decoder`.
      image_classes: as of `encoder_decoder`.
      mean: as of `encoder_decoder`.
      std: as of `encoder_decoder`.
      dtype: float32 or bfloat16, what is computed in. Parameters, statistics and logits are float32.

    Raises:
      ConfigError: an argument is out of range; the message names it and what is allowed.
    """
    check_integer("decoder_channels", decoder_channels, 1)
    return encoder_decoder(
        num_classes=num_classes,
        encoder=encoder,
        decoder=lambda _: SegFormerDecoder(decoder_channels, dtype=dtype),
        encoder_depth=encoder_depth,
        remat=remat,
        mean=mean,
        std=std,
        image_classes=image_classes,
        dtype=dtype,
        head_kernel_size=1,
        upsampling=4,
    )


class SegFormerDecoder(nn.Module):
    """A layer for each feature but the picture, `linear0` for the coarsest, and a layer `fuse` for all of them."""

    channels: int
    dtype: Any = jnp.float32

    torch_names: ClassVar[Renames] = (
        (r"mlp_stage\.(\d)\.linear", r"linear\1"),
        (r"fuse_stage\.0", r"fuse/conv"),
        (r"fuse_stage\.1", r"fuse/norm"),
    )

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """[B, H / 4, W / 4, channels] of features that begin with a picture's of [B, H, W, C]."""
        size = features[0].shape[1] // 4, features[0].shape[2] // 4
        used = [feature for feature in reversed(features[1:]) if feature.shape[-1]]
        dense = [nn.Dense(self.channels, dtype=self.dtype, name=f"linear{i}") for i in range(len(used))]
        # Layers within a pixel and resizing commute: the layers run where there are fewer pixels.
        smaller = [x if x.shape[1] <= size[0] else ops.resize_bilinear(x, size) for x in used]
        maps = [layer(x) for layer, x in zip(dense, smaller, strict=True)]
        return _Fusion(self.channels, size, self.dtype, name="fuse")(*maps, train=train)


class _Fusion(nn.Module):
    """A layer within a pixel of several maps, resized to `size` and joined; normalization, activation."""

    channels: int
    size: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, *maps: jax.Array, train: bool) -> jax.Array:
        """[B, *size, channels] of several [B, h_i, w_i, C_i]."""
        mixed = _Mixing(self.channels, self.size, self.dtype, name="conv")(*maps)
        return nn.relu(norm("batch", self.channels, train=train, dtype=self.dtype)(mixed))


class _Mixing(nn.Module):
    """The 1x1 convolution of maps resized to `size` and joined, by its share for each map before that is resized."""

    channels: int
    size: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, *maps: jax.Array) -> jax.Array:
        widths = [x.shape[-1] for x in maps]
        kernel = self.param("kernel", kernel_initializer, (1, 1, sum(widths), self.channels), jnp.float32)
        ends = [sum(widths[: i + 1]) for i in range(len(widths) - 1)]
        shares = jnp.split(kernel.astype(self.dtype), ends, axis=2)
        mixed = [ops.conv(x, share) for x, share in zip(maps, shares, strict=True)]
        return sum((ops.resize_bilinear(x, self.size) for x in mixed[1:]), ops.resize_bilinear(mixed[0], self.size))
