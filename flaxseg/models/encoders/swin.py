"""Swin Transformer (Liu et al. 2021, https://arxiv.org/abs/2103.14030)."""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxseg import ops
from flaxseg.models.encoders.encoder import Encoder, HubFile
from flaxseg.models.layers.conv import Conv, crop
from flaxseg.models.layers.dense import Dense
from flaxseg.models.pretrained.torch_names import TorchNames

EPSILON = 1e-5
"""Added to the variance in every layer normalization."""

_initializer = nn.initializers.truncated_normal(0.02)


class SwinTransformer(nn.Module):
    """Swin Transformer. It has no feature at 1/2 of the image's size; that feature has no channels.

    Features are padded with zeros at the bottom and right to whole windows, and shifted afterwards. Parameters are
    named `stem/...`, `stage{i}_merge/...`, `stage{i}_block{j}/...`.

    Attributes:
      width: channels of the first stage; they double with each stage.
      blocks: number of blocks of each stage.
      heads: number of attention heads of each stage.
      window: height and width of the windows that attention is computed in.
      drop_path_rate: stochastic depth rate of the last block; it increases linearly from 0 at the first block.
      depth: number of times that the encoder halves the image.
      output_stride: the smallest features are at 1 / output_stride of the image's size.
      dtype: float32 or bfloat16, the data type of the computation.
    """

    width: int
    blocks: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int
    drop_path_rate: float = 0.2
    depth: int = 5
    output_stride: int = 32
    dtype: Any = jnp.float32

    # Published files have a dot in names where timm's feature extractors have an underscore.
    torch_names: ClassVar[TorchNames] = (
        (r"patch_embed\.proj", r"stem/conv"),
        (r"patch_embed\.norm", r"stem/norm"),
        (r"layers[._](\d)\.downsample\.norm", r"stage\1_merge/norm"),
        (r"layers[._](\d)\.downsample\.reduction", r"stage\1_merge/reduce"),
        (r"layers[._](\d)\.blocks\.(\d+)\.norm(\d)", r"stage\1_block\2/norm\3"),
        (r"layers[._](\d)\.blocks\.(\d+)\.attn\.relative_position_index", None),
        (r"layers[._](\d)\.blocks\.(\d+)\.attn\.relative_position_bias_table", r"stage\1_block\2/attention/bias_table"),
        (r"layers[._](\d)\.blocks\.(\d+)\.attn\.(qkv|proj)", r"stage\1_block\2/attention/\3"),
        (r"layers[._](\d)\.blocks\.(\d+)\.attn_mask", None),
        (r"layers[._](\d)\.blocks\.(\d+)\.mlp\.fc1", r"stage\1_block\2/expand"),
        (r"layers[._](\d)\.blocks\.(\d+)\.mlp\.fc2", r"stage\1_block\2/project"),
        (r"norm|head(\.fc)?", None),
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features at 1/2, 1/4, ... of the image's size."""
        return (0, *(self.width * 2**stage for stage in range(4)))[: self.depth]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> list[jax.Array]:
        """Returns `depth + 1` features: the image itself, then features at 1/2, 1/4, ... of its size."""
        features = [x, jnp.asarray(x[:, ::2, ::2, :0], self.dtype)]
        x = _Stem(self.width, self.dtype, name="stem")(x)
        for stage in range(self.depth - 1):
            if stage > 0:
                x = _PatchMerging(self.dtype, name=f"stage{stage}_merge")(x)
            for number in range(self.blocks[stage]):
                position = sum(self.blocks[:stage]) + number
                rate = self.drop_path_rate * position / (sum(self.blocks) - 1)
                shift = self.window // 2 * (number % 2)
                options = self.heads[stage], self.window, shift, rate, self.dtype
                block = _Block(*options, name=f"stage{stage}_block{number}")
                x = block(x, train=train)
            features.append(x)
        return features


class _Stem(nn.Module):
    """Embedding of patches of 4x4 pixels: a strided convolution and layer normalization."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H / 4, W / 4, width] of [B, H, W, C]."""
        x = Conv(self.width, 4, 4, dtype=self.dtype, kernel_init=_initializer, name="conv")(x)
        return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x)


class _PatchMerging(nn.Module):
    """Concatenation of the features of 2x2 pixels, layer normalization and a projection to half of the channels."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H / 2, W / 2, 2 * C] of [B, H, W, C], whose pixels are merged column by column."""
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, height // 2, width // 2, 4 * channels)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm")(x)
        dense = Dense(2 * channels, use_bias=False, dtype=self.dtype, kernel_init=_initializer, name="reduce")
        return dense(x)


class _Block(nn.Module):
    """Attention within windows, then a two-layer MLP within each pixel, both residual and with stochastic depth."""

    heads: int
    window: int
    shift: int
    drop_path_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        drop_path = functools.partial(
            nn.Dropout, self.drop_path_rate, broadcast_dims=(1, 2, 3), deterministic=not train
        )
        norm = functools.partial(nn.LayerNorm, epsilon=EPSILON, dtype=self.dtype)
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_initializer)
        attention = WindowAttention(self.heads, self.window, self.shift, self.dtype, name="attention")
        x = x + drop_path()(attention(norm(name="norm1")(x)))
        y = dense(4 * x.shape[-1], name="expand")(norm(name="norm2")(x))
        return x + drop_path()(dense(x.shape[-1], name="project")(ops.gelu(y)))


class WindowAttention(nn.Module):
    """Self-attention within windows that do not overlap, with a learned bias for each relative position.

    Attributes:
      heads: number of attention heads.
      window: height and width of the windows.
      shift: number of pixels by which the windows are shifted to the bottom and right. Parts of the first row and
        column of windows are then joined with those of the last ones; they do not attend to one another.
      dtype: float32 or bfloat16, the data type of the computation; scores and their softmax are float32.
    """

    heads: int
    window: int
    shift: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [B, H, W, C] of [B, H, W, C], of any height and width."""
        batch, height, width, channels = x.shape
        dense = functools.partial(Dense, dtype=self.dtype, kernel_init=_initializer)
        grid = -(-height // self.window), -(-width // self.window)
        windows = self._partition(x, grid)
        projected = dense(3 * channels, name="qkv")(windows)
        split = projected.reshape(*windows.shape[:3], 3, self.heads, channels // self.heads)
        attended = self._attend(*(split[:, :, :, part] for part in range(3)), grid=grid)
        y = dense(channels, name="proj")(attended.reshape(windows.shape))
        y = y.reshape(batch, *grid, self.window, self.window, channels).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, *(count * self.window for count in grid), channels)
        return crop(_rolled(y, -self.shift), (height, width))

    def _partition(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Returns the shifted windows [B, N, window**2, C] of [B, H, W, C], which form a grid of this size."""
        batch, height, width, channels = x.shape
        padded = [(0, count * self.window - length) for count, length in zip(grid, (height, width), strict=True)]
        x = _rolled(jnp.pad(x, ((0, 0), *padded, (0, 0))), self.shift)
        x = x.reshape(batch, grid[0], self.window, grid[1], self.window, channels)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, grid[0] * grid[1], self.window**2, channels)

    def _attend(self, query: jax.Array, key: jax.Array, value: jax.Array, *, grid: tuple[int, int]) -> jax.Array:
        """Returns [B, N, window**2, heads, c] of arrays of this shape, whose windows form a grid of this size."""
        exact = jnp.promote_types(self.dtype, jnp.float32)
        scores = jnp.einsum("bnqhc,bnkhc->bnhqk", query, key, preferred_element_type=exact)
        shape = ((2 * self.window - 1) ** 2, self.heads)
        table = self.param("bias_table", _initializer, shape, jnp.float32)
        bias = table[relative_position_index(self.window)].transpose(2, 0, 1)
        scores = scores * query.shape[-1] ** -0.5 + bias
        if self.shift:
            parts = window_parts(grid, self.window, self.shift)
            apart = parts[:, :, None] != parts[:, None, :]
            # Lower by 100, and not minus infinity, as in the networks that the public weights come from.
            scores = scores - 100.0 * apart[:, None].astype(exact)
        weights = jax.nn.softmax(scores).astype(self.dtype)
        return jnp.einsum("bnhqk,bnkhc->bnqhc", weights, value)


def relative_position_index(window: int) -> np.ndarray:
    """Returns the row of the table of biases for each pair of pixels of a window, int[window**2, window**2].

    The pixels are numbered row by row. The row for a query at (y, x) and a key at (v, u) is that of the offset
    (y - v, x - u), where offsets from (1 - window, 1 - window) on are numbered row by row, too.
    """
    y, x = np.divmod(np.arange(window**2), window)
    rows, columns = y[:, None] - y + window - 1, x[:, None] - x + window - 1
    return rows * (2 * window - 1) + columns


def _rolled(x: jax.Array, shift: int) -> jax.Array:
    """Returns [B, H, W, C], shifted cyclically to the top and left; with a negative shift, to the bottom and right."""
    for axis in (1, 2) if shift else ():
        length = x.shape[axis]
        place = shift if shift > 0 else length + shift
        parts = jax.lax.slice_in_dim(x, place, length, axis=axis), jax.lax.slice_in_dim(x, 0, place, axis=axis)
        x = jnp.concatenate(parts, axis)
    return x


def window_parts(grid: tuple[int, int], window: int, shift: int) -> jax.Array:
    """Returns the part of the image that each pixel of each shifted window belongs to, int[N, window**2].

    Only the windows of the last row and of the last column of the grid have pixels of different parts: those before
    the edge of the image, and those that were shifted in from its other side.

    Args:
      grid: rows and columns of windows; N is their product.
      window: height and width of a window.
      shift: number of pixels by which the image was shifted to the top and left, of at least 1.
    """
    lengths = [count * window for count in grid]
    rows, columns = ((jnp.arange(length) >= length - shift).astype(jnp.int32) for length in lengths)
    parts = 2 * rows.reshape(grid[0], 1, window, 1) + columns.reshape(1, grid[1], 1, window)
    return parts.reshape(grid[0] * grid[1], window**2)


ENCODERS: dict[str, Encoder] = {
    f"swin_{variant}": Encoder(
        functools.partial(SwinTransformer, width, blocks, heads, window),
        HubFile(f"timm/swin_{variant}.{weights}", "main", license="mit"),
        output_strides=(32,),
    )
    for variant, weights, width, blocks, heads, window in (
        ("tiny_patch4_window7_224", "ms_in1k", 96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
        ("small_patch4_window7_224", "ms_in22k_ft_in1k", 96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
        ("base_patch4_window7_224", "ms_in22k_ft_in1k", 128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
        ("base_patch4_window12_384", "ms_in22k_ft_in1k", 128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
        ("large_patch4_window7_224", "ms_in22k_ft_in1k", 192, (2, 2, 18, 2), (6, 12, 24, 48), 7),
        ("large_patch4_window12_384", "ms_in22k_ft_in1k", 192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
    )
}
"""The tag of timm's default weights; channels of the first stage; blocks and heads of each stage; the window."""
