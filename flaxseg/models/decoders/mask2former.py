"""Mask2Former (Cheng et al. 2021, https://arxiv.org/abs/2112.01527) with any encoder, for semantic segmentation."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.errors import POSITIVE, ArgumentError, check_integer
from flaxseg.models.decoders.decoder import Decoder
from flaxseg.models.layers.conv import Conv
from flaxseg.models.layers.deformable import DeformableAttention, sine_positions
from flaxseg.models.layers.dense import Dense
from flaxseg.models.layers.queries import query_logits

LEVELS = 3
"""Number of feature maps, from the coarsest on, that attention is applied to."""

GROUPS = 32
"""Number of groups of channels that are normalized separately."""

_EPSILON = 1e-5
_initializer = nn.initializers.xavier_uniform()


class Mask2FormerDecoder(Decoder):
    """Queries that each predict a class and a mask; a pixel's score for a class is the sum over the queries.

    The logits are the logarithms of the scores; see `query_logits`.

    Parameters are named `feature_norm{i}`, `pixels/...` and `queries/...`.

    Attributes:
      num_classes: number of classes.
      decoder_channels: channels of every feature map and query.
      queries: number of queries.
      heads: number of attention heads.
      pixel_layers: number of layers of deformable attention among the pixels.
      query_layers: number of layers in which queries attend to pixels and to one another.
      pixel_mlp_channels: inner channels of the two-layer MLPs of the pixels.
      query_mlp_channels: inner channels of the two-layer MLPs of the queries.
      feature_epsilon: added to the variance in the layer normalization of the encoder's features.
      dtype: float32 or bfloat16, the data type of the computation; scores are float32.
    """

    num_classes: int = 1
    decoder_channels: int = 256
    queries: int = 100
    heads: int = 8
    pixel_layers: int = 6
    query_layers: int = 9
    pixel_mlp_channels: int = 1024
    query_mlp_channels: int = 2048
    feature_epsilon: float = 1e-5
    dtype: Any = jnp.float32

    def check(self, encoder: str, channels: Sequence[int]) -> None:
        """Checks the options."""
        counts = ("decoder_channels", "queries", "heads", "pixel_layers", "query_layers")
        for name in (*counts, "pixel_mlp_channels", "query_mlp_channels"):
            check_integer(name, getattr(self, name), 1)
        POSITIVE.check("feature_epsilon", self.feature_epsilon)
        if self.decoder_channels % GROUPS or self.decoder_channels % self.heads:
            raise ArgumentError(
                "decoder_channels", self.decoder_channels, f"must be a multiple of {GROUPS} and of heads = {self.heads}"
            )
        if len(channels) != 5:
            raise ArgumentError("encoder_depth", len(channels), "Mask2Former needs 5, as it uses the feature at 1/32")

    @nn.compact
    def __call__(self, features: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Returns logits, float32[B, H, W, num_classes]."""
        norm = functools.partial(nn.LayerNorm, epsilon=self.feature_epsilon, dtype=self.dtype)
        used = [norm(name=f"feature_norm{number}")(feature) for number, feature in enumerate(features[2:])]
        options = self.decoder_channels, self.heads
        pixels = _PixelDecoder(*options, self.pixel_layers, self.pixel_mlp_channels, self.dtype, name="pixels")
        maps, mask_features = pixels(used)
        queries = _QueryDecoder(
            *options, self.num_classes, self.queries, self.query_layers, self.query_mlp_channels, self.dtype,
            name="queries",
        )  # fmt: skip
        classes, masks = queries(maps, mask_features)
        return query_logits(classes, masks, (features[0].shape[1], features[0].shape[2]))


class _PixelDecoder(nn.Module):
    """Deformable attention among the pixels of the coarsest maps, and one finer map that they are added to."""

    channels: int
    heads: int
    layers: int
    mlp_channels: int
    dtype: Any

    @nn.compact
    def __call__(self, features: Sequence[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
        """Returns the maps at 1/32, 1/16 and 1/8 of the image's size, and the features of masks at 1/4."""
        group_norm = functools.partial(nn.GroupNorm, GROUPS, epsilon=_EPSILON, dtype=self.dtype)
        conv = functools.partial(Conv, self.channels, dtype=self.dtype, kernel_init=_initializer)
        coarse = list(reversed(features[1:]))
        sizes = [(x.shape[1], x.shape[2]) for x in coarse]
        embeddings = self.param("level_embedding", nn.initializers.normal(1.0), (LEVELS, self.channels), jnp.float32)
        tokens, positions = [], []
        for level, (x, size) in enumerate(zip(coarse, sizes, strict=True)):
            x = group_norm(name=f"norm{level}")(conv(1, name=f"project{level}")(x))
            tokens.append(x.reshape(x.shape[0], size[0] * size[1], self.channels))
            positions.append(sine_positions(size, self.channels) + embeddings[level])
        x, position = jnp.concatenate(tokens, 1), jnp.concatenate(positions).astype(self.dtype)
        for number in range(self.layers):
            x = _PixelLayer(self.heads, self.mlp_channels, self.dtype, name=f"layer{number}")(x, position, sizes)
        ends = [sum(height * width for height, width in sizes[: level + 1]) for level in range(LEVELS)]
        parts = (x[:, begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True))
        maps = [part.reshape(-1, *size, self.channels) for part, size in zip(parts, sizes, strict=True)]
        finest = group_norm(name="lateral_norm")(conv(1, use_bias=False, name="lateral")(features[0]))
        finest = finest + ops.resize_bilinear(maps[-1], (finest.shape[1], finest.shape[2]))
        finest = nn.relu(group_norm(name="smooth_norm")(conv(3, use_bias=False, name="smooth")(finest)))
        return maps, conv(1, name="mask_features")(finest)


class _PixelLayer(nn.Module):
    """Deformable attention and a two-layer MLP, both residual and followed by layer normalization."""

    heads: int
    mlp_channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, position: jax.Array, sizes: Sequence[tuple[int, int]]) -> jax.Array:
        attended = DeformableAttention(self.heads, dtype=self.dtype, name="attention")(x + position, x, sizes)
        x = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name="norm1")(x + attended)
        y = _Mlp((self.mlp_channels, x.shape[-1]), self.dtype, name="mlp")(x)
        return nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name="norm2")(x + y)


class _QueryDecoder(nn.Module):
    """Queries that attend to the pixels within the masks that they have predicted so far, and to one another."""

    channels: int
    heads: int
    num_classes: int
    queries: int
    layers: int
    mlp_channels: int
    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], mask_features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the logits of classes, float32[B, queries, num_classes + 1], and masks, float32[B, h, w, queries]."""
        embedding, shape = nn.initializers.normal(1.0), (self.queries, self.channels)
        query_position = self.param("position", embedding, shape, jnp.float32).astype(self.dtype)
        x = self.param("feature", embedding, shape, jnp.float32).astype(self.dtype)
        level_embedding = self.param("level_embedding", embedding, (LEVELS, self.channels), jnp.float32)
        batch, sizes = maps[0].shape[0], [(each.shape[1], each.shape[2]) for each in maps]
        x = jnp.broadcast_to(x, (batch, *shape))
        memories = [
            each.reshape(batch, -1, self.channels) + level_embedding[level].astype(self.dtype)
            for level, each in enumerate(maps)
        ]
        norm = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype, name="norm")
        mask_mlp = _Mlp((self.channels,) * 3, self.dtype, name="mask_mlp")
        wide = jnp.promote_types(self.dtype, jnp.float32)
        mask_features = mask_features.astype(wide)

        def predicted_masks(x: jax.Array) -> jax.Array:
            return jnp.einsum("bqc,bhwc->bhwq", mask_mlp(norm(x)).astype(wide), mask_features)

        masks = predicted_masks(x)
        for number in range(self.layers):
            level = number % LEVELS
            key = memories[level] + sine_positions(sizes[level], self.channels).astype(self.dtype)
            visible = visible_pixels(masks, sizes[level])
            layer = _QueryLayer(self.heads, self.mlp_channels, self.dtype, name=f"layer{number}")
            x = layer(x, query_position, key, memories[level], visible)
            masks = predicted_masks(x)
        return Dense(self.num_classes + 1, name="class_head")(norm(x).astype(wide)), masks


def visible_pixels(masks: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Returns the pixels that each query attends to, bool[B, queries, H * W]: all where its mask contains none.

    Args:
      masks: logits, float32[B, h, w, queries].
      size: height H and width W of the map.
    """
    inside = ops.resize_bilinear(jax.lax.stop_gradient(masks), size) >= 0
    inside = inside.reshape(inside.shape[0], size[0] * size[1], -1).transpose(0, 2, 1)
    return inside | ~inside.any(-1, keepdims=True)


class _QueryLayer(nn.Module):
    """Attention to pixels, attention among queries, and an MLP; each residual and followed by layer normalization."""

    heads: int
    mlp_channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, position: jax.Array, key: jax.Array, memory: jax.Array, visible: jax.Array
    ) -> jax.Array:
        norm = functools.partial(nn.LayerNorm, epsilon=_EPSILON, dtype=self.dtype)
        attention = functools.partial(_Attention, self.heads, self.dtype)
        x = norm(name="norm1")(x + attention(name="cross")(x + position, key, memory, visible))
        x = norm(name="norm2")(x + attention(name="self")(x + position, x + position, x))
        return norm(name="norm3")(x + _Mlp((self.mlp_channels, x.shape[-1]), self.dtype, name="mlp")(x))


class _Attention(nn.Module):
    """Attention with several heads, whose scores and their softmax are float32."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(
        self, query: jax.Array, key: jax.Array, value: jax.Array, visible: jax.Array | None = None
    ) -> jax.Array:
        """Returns [B, N, C] of queries [B, N, C], and keys and values [B, M, C] that are visible, bool[B, N, M]."""
        channels = query.shape[-1]
        dense = functools.partial(Dense, channels, dtype=self.dtype, kernel_init=_initializer)
        parts = [
            dense(name=name)(x).reshape(*x.shape[:2], self.heads, channels // self.heads)
            for name, x in (("q", query), ("k", key), ("v", value))
        ]
        mask = None if visible is None else visible[:, None]
        attended = jax.nn.dot_product_attention(parts[0], parts[1], parts[2], mask=mask)
        return dense(name="proj")(attended.reshape(query.shape))


class _Mlp(nn.Module):
    """Dense layers with a ReLU between them."""

    channels: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, channels in enumerate(self.channels):
            x = nn.relu(x) if number else x
            x = Dense(channels, dtype=self.dtype, kernel_init=_initializer, name=f"dense{number}")(x)
        return x
