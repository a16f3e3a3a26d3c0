"""Deformable attention over feature maps of several sizes, and positions of pixels as sines and cosines."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flaxseg.models.layers.dense import Dense

Size = tuple[int, int]


class DeformableAttention(nn.Module):
    """Attention to a few sampled points of each map (Zhu et al. 2020, https://arxiv.org/abs/2010.04159).

    Attributes:
      heads: number of attention heads.
      points: number of points of each map that a head samples.
      dtype: float32 or bfloat16, the data type of the computation; positions and weights are float32.
    """

    heads: int
    points: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, query: jax.Array, value: jax.Array, sizes: Sequence[Size]) -> jax.Array:
        """Returns features [B, N, C] of the pixels of all maps together.

        Args:
          query: [B, N, C], which the points and their weights are computed from.
          value: [B, N, C], which is sampled.
          sizes: height and width of each map, whose pixels follow one another row by row; N is their number.
        """
        batch, count, channels = query.shape
        shape = (batch, count, self.heads, len(sizes), self.points)
        total = self.heads * len(sizes) * self.points
        dense = functools.partial(Dense, dtype=self.dtype)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        zeros = nn.initializers.zeros_init()
        offsets = dense(2 * total, kernel_init=zeros, bias_init=self._first_offsets, name="offsets")(query)
        offsets = offsets.astype(wide).reshape(*shape, 2)
        weights = dense(total, kernel_init=zeros, name="weights")(query).astype(wide)
        weights = jax.nn.softmax(weights.reshape(*shape[:3], -1)).reshape(shape)
        values = dense(channels, kernel_init=nn.initializers.xavier_uniform(), name="value")(value)
        values = values.reshape(batch, count, self.heads, channels // self.heads).astype(wide)
        centers, found, begin = pixel_centers(sizes), jnp.zeros((), wide), 0
        for level, (height, width) in enumerate(sizes):
            x = centers[:, None, None, 0] * width - 0.5 + offsets[:, :, :, level, :, 0]
            y = centers[:, None, None, 1] * height - 0.5 + offsets[:, :, :, level, :, 1]
            end = begin + height * width
            found = found + _weighted_samples(values[:, begin:end], (height, width), x, y, weights[:, :, :, level])
            begin = end
        found = found.astype(self.dtype).reshape(batch, count, channels)
        return dense(channels, kernel_init=nn.initializers.xavier_uniform(), name="proj")(found)

    def _first_offsets(self, key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        """Returns the initial offsets: each head looks into another direction, with points at growing distances."""
        del key
        angles = jnp.arange(self.heads) * (2 * math.pi / self.heads)
        directions = jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)
        directions = directions / jnp.abs(directions).max(-1, keepdims=True)
        offsets = directions[:, None, None] * jnp.arange(1, self.points + 1)[:, None]
        levels = shape[0] // offsets.size
        return jnp.broadcast_to(offsets, (self.heads, levels, self.points, 2)).reshape(shape).astype(dtype)


def _weighted_samples(values: jax.Array, size: Size, x: jax.Array, y: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns weighted sums of bilinear samples, [B, N, heads, c]; a map is 0 outside.

    Args:
      values: the pixels of the map, [B, H * W, heads, c].
      size: its height and width.
      x: columns of the points, [B, N, heads, points], where 0 is the center of the first pixel.
      y: rows of the points.
      weights: their weights.
    """
    height, width = size
    left, top = jnp.floor(x), jnp.floor(y)
    batch, count, heads, points = x.shape
    pixels, found = values.transpose(0, 2, 1, 3), jnp.zeros((), values.dtype)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        column, row = left + right, top + down
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        share = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row)) * weights * inside
        index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        index = index.astype(jnp.int32).transpose(0, 2, 1, 3).reshape(batch, heads, count * points, 1)
        taken = jnp.take_along_axis(pixels, index, axis=2).reshape(batch, heads, count, points, -1)
        found = found + jnp.einsum("bnhp,bhnpc->bnhc", share, taken)
    return found


def pixel_centers(sizes: Sequence[Size]) -> jax.Array:
    """Returns the centers (x, y) of the pixels of maps as fractions of their width and height, float32[N, 2].

    Args:
      sizes: height and width of each map, whose pixels follow one another row by row.
    """
    centers = []
    for height, width in sizes:
        y, x = jnp.meshgrid((jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width, indexing="ij")
        centers.append(jnp.stack([x, y], -1).reshape(height * width, 2))
    return jnp.concatenate(centers)


def sine_positions(size: Size, channels: int) -> jax.Array:
    """Returns the positions of pixels as sines and cosines of many wavelengths, float32[H * W, channels].

    The first half of the channels is that of the rows, and the second that of the columns (Carion et al. 2020,
    https://arxiv.org/abs/2005.12872).

    Args:
      size: height and width of the map.
      channels: a multiple of 4.
    """
    wavelengths = 10000.0 ** (4 * jnp.repeat(jnp.arange(channels // 4), 2) / channels)
    parts = []
    for length in size:
        position = jnp.arange(1, length + 1) / (length + 1e-6) * (2 * math.pi)
        angles = position[:, None] / wavelengths
        waves = jnp.stack([jnp.sin(angles[:, ::2]), jnp.cos(angles[:, 1::2])], -1)
        parts.append(waves.reshape(length, channels // 2))
    shape = (*size, channels // 2)
    both = jnp.broadcast_to(parts[0][:, None], shape), jnp.broadcast_to(parts[1][None], shape)
    return jnp.concatenate(both, -1).reshape(size[0] * size[1], channels)
