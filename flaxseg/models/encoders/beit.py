"""BEiT (Bao et al. 2021, https://arxiv.org/abs/2106.08254) with the feature pyramid of its segmentation networks."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.layers.conv import Conv, ConvTranspose
from flaxseg.models.layers.dense import Dense
from flaxseg.models.layers.normalization import norm
from flaxseg.models.pretrained.torch_names import TorchNames

PATCH = 16

_initializer = nn.initializers.truncated_normal(0.02)


class BEiT(nn.Module):
    """BEiT, and a feature pyramid of the outputs of four blocks. It has no feature at 1/2 of the image's size.

    The biases of relative positions are interpolated where an image has another number of patches than `window`.
    Parameters are named `stem/...`, `class_token`, `block{i}/...`, `pyramid/...`.

    Attributes:
      width: number of channels, of patches and of all features.
      heads: number of attention heads.
      blocks: number of blocks.
      feature_blocks: the numbers of the blocks, from 1 on, whose outputs are the features at 1/4, 1/8, 1/16 and 1/32 of
        the image's size; blocks after the last of them are not computed.
      window: height and width, in patches, of the images that the biases of relative positions were trained on.
      scale: initial value of the factors of each residual branch.
      drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first block.
      depth: number of times that the encoder halves the image.
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
      epsilon: added to the variance in the layer normalizations.
    """

    width: int
    heads: int
    blocks: int
    feature_blocks: tuple[int, int, int, int]
    window: int = 14
    scale: float = 0.1
    drop_path_rate: float = 0.1
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    # The pyramid has the names of the authors' segmentation code.
    torch_names: ClassVar[TorchNames] = (
        (r"patch_embed\.proj", r"stem"),
        (r"cls_token", r"class_token"),
        (r"blocks\.(\d+)\.norm(\d)", r"block\1/norm\2"),
        (r"blocks\.(\d+)\.gamma_(\d)", r"block\1/gamma\2"),
        (r"blocks\.(\d+)\.attn\.q_bias", r"block\1/attention/query_bias"),
        (r"blocks\.(\d+)\.attn\.v_bias", r"block\1/attention/value_bias"),
        (r"blocks\.(\d+)\.attn\.relative_position_bias_table", r"block\1/attention/bias_table"),
        (r"blocks\.(\d+)\.attn\.relative_position_index", None),
        (r"blocks\.(\d+)\.attn\.(qkv|proj)", r"block\1/attention/\2"),
        (r"blocks\.(\d+)\.mlp\.fc1", r"block\1/expand"),
        (r"blocks\.(\d+)\.mlp\.fc2", r"block\1/project"),
        (r"fpn1\.0", r"pyramid/quadruple1:transposed"),
        (r"fpn1\.1", r"pyramid/norm"),
        (r"fpn1\.3", r"pyramid/quadruple2:transposed"),
        (r"fpn2\.0", r"pyramid/double:transposed"),
        (r"(fc_)?norm|head", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (0, *[self.width] * 4)[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x, jnp.asarray(x[:, ::2, ::2, :0], self.dtype)]
        patches = Conv(self.width, PATCH, PATCH, dtype=self.dtype, kernel_init=_initializer, name="stem")(x)
        batch, height, width, channels = patches.shape
        token = self.param("class_token", _initializer, (1, 1, channels), jnp.float32)
        token = jnp.broadcast_to(token.astype(self.dtype), (batch, 1, channels))
        x = jnp.concatenate([token, patches.reshape(batch, height * width, channels)], 1)
        used, maps = self.feature_blocks[: self.depth - 1], []
        for number in range(used[-1]):
            rate = self.drop_path_rate * number / (self.blocks - 1)
            options = self.heads, (height, width), self.window, self.scale, rate, self.dtype, self.epsilon
            x = _Block(*options, name=f"block{number}")(x, train=train)
            if number + 1 in used:
                maps.append(x[:, 1:].reshape(batch, height, width, channels))
        return features + _Pyramid(self.dtype, name="pyramid")(maps, train=train)


class _Block(nn.Module):
    """Attention, then a two-layer MLP within each patch, both residual, scaled and with stochastic depth."""

    heads: int
    grid: tuple[int, int]
    window: int
    scale: float
    drop_path_rate: float
    dtype: Any
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        drop_path = functools.partial(nn.Dropout, self.drop_path_rate, broadcast_dims=(1, 2), deterministic=not train)
        norm = functools.partial(nn.LayerNorm, epsilon=self.epsilon, dtype=self.dtype)
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_initializer)
        factors = [
            self.param(f"gamma{number}", nn.initializers.constant(self.scale), (channels,), jnp.float32)
            for number in (1, 2)
        ]
        attention = _Attention(self.heads, self.grid, self.window, self.dtype, name="attention")
        y = attention(norm(name="norm1")(x))
        x = x + drop_path()(y * factors[0].astype(self.dtype))
        y = dense(4 * channels, name="expand")(norm(name="norm2")(x))
        y = dense(channels, name="project")(ops.gelu(y))
        return x + drop_path()(y * factors[1].astype(self.dtype))


class _Attention(nn.Module):
    """Self-attention of a class token and patches, with a learned bias for each relative position."""

    heads: int
    grid: tuple[int, int]
    window: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, 1 + H * W, C] of [B, 1 + H * W, C], for a grid of H x W patches."""
        batch, tokens, channels = x.shape
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_initializer)
        zeros = nn.initializers.zeros_init()
        query_bias = self.param("query_bias", zeros, (channels,), jnp.float32)
        value_bias = self.param("value_bias", zeros, (channels,), jnp.float32)
        # A bias of the keys would add the same to all scores of a query.
        bias = jnp.concatenate([query_bias, jnp.zeros_like(query_bias), value_bias])
        projected = dense(3 * channels, use_bias=False, name="qkv")(x) + bias.astype(self.dtype)
        split = projected.reshape(batch, tokens, 3, self.heads, channels // self.heads)
        # Scores and their softmax are computed in float32, regardless of `dtype`.
        query, key, value = (split[:, :, part] for part in range(3))
        attended = jax.nn.dot_product_attention(query, key, value, bias=self._position_bias())
        return dense(channels, name="proj")(attended.reshape(x.shape))

    def _position_bias(self) -> jax.Array:
        """Returns the bias of each pair of tokens, float32[1, heads, 1 + H * W, 1 + H * W]."""
        side = 2 * self.window - 1
        table = self.param("bias_table", _initializer, (side**2 + 3, self.heads), jnp.float32)
        offsets, rest = table[: side**2].reshape(1, side, side, self.heads), table[side**2 :]
        size = 2 * self.grid[0] - 1, 2 * self.grid[1] - 1
        offsets = ops.resize_bilinear(offsets, size).reshape(size[0] * size[1], self.heads)
        index = relative_position_index(self.grid)
        return jnp.concatenate([offsets, rest])[index].transpose(2, 0, 1)[None]


def relative_position_index(grid: tuple[int, int]) -> jax.Array:
    """Returns the row of the table of biases for each query and key, int[1 + H * W, 1 + H * W].

    The first token is the class token; patches follow row by row. The row for patches at (y, x) and (v, u) is that of
    the offset (y - v, x - u), where offsets from (1 - H, 1 - W) on are numbered row by row, too. Three rows follow: for
    the class token as the query, as the key, and as both.

    Args:
      grid: height H and width W of the image in patches.
    """
    height, width = grid
    token = jnp.arange(height * width + 1)
    y, x = jnp.divmod(token - 1, width)
    rows, columns = y[:, None] - y + height - 1, x[:, None] - x + width - 1
    last = (2 * height - 1) * (2 * width - 1)
    query, key = token[:, None] == 0, token == 0
    special = jnp.where(query & key, last + 2, jnp.where(query, last, last + 1))
    return jnp.where(query | key, special, rows * (2 * width - 1) + columns)


class _Pyramid(nn.Module):
    """Maps at 1/16 of the image's size, brought to 1/4 and 1/8 by transposed convolutions and to 1/32 by pooling."""

    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], *, train: bool) -> list[jax.Array]:
        """Returns features at 1/4, 1/8, ... of as many maps [B, H / 16, W / 16, C], of at least two."""
        width = maps[0].shape[-1]
        layer = functools.partial(ConvTranspose, width, dtype=self.dtype)
        fine = norm("batch", width, train=train, dtype=self.dtype)(layer(name="quadruple1")(maps[0]))
        fine = layer(name="quadruple2")(ops.gelu(fine))
        return [fine, layer(name="double")(maps[1]), *maps[2:3], *(ops.max_pool(x) for x in maps[3:])]


def _make(make: Callable[..., BEiT], *, depth: int, output_stride: int, dtype: Any) -> BEiT:
    """Returns the module; whatever the depth, images have to be multiples of two patches."""
    del output_stride
    return make(depth=depth, output_stride=2 * PATCH, dtype=dtype)


ENCODERS: dict[str, Encoder] = {
    f"beit_{variant}": Encoder(
        functools.partial(_make, functools.partial(BEiT, width, heads, blocks, features, window, scale)),
        HubFile(f"timm/beit_{variant}.{weights}", "main", license="apache-2.0") if weights else None,
        mean=(127.5,) * 3,
        std=(127.5,) * 3,
        output_strides=(32,),
        added="pyramid",
    )
    for variant, weights, width, heads, blocks, features, window, scale in (
        ("base_patch16_224", "in22k_ft_in22k_in1k", 768, 12, 12, (4, 6, 8, 12), 14, 0.1),
        ("base_patch16_640", "", 768, 12, 12, (2, 4, 6, 10), 40, 0.1),
        ("large_patch16_224", "in22k_ft_in22k_in1k", 1024, 16, 24, (8, 12, 16, 24), 14, 1e-5),
        ("large_patch16_640", "", 1024, 16, 24, (6, 10, 14, 22), 40, 1e-5),
    )
}
"""The tag of timm's default weights; channels, heads, blocks, blocks of the features, window, initial factors.

The encoders for 640 pixels are those of transformers' networks for ADE20K. Its `out_indices` count the input of the
first block as 1, so that its features are those of two blocks earlier than in the authors' code."""
