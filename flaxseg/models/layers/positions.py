"""Positions of patches in a vision transformer: resized position embeddings, and rotary ones."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flaxseg import ops

INTERPOLATIONS = ("bicubic_antialias", "bicubic", "bilinear")
"""How position embeddings are resized: as in timm, as in transformers' DINOv2, and as in its DPT; see `resized`."""

Rotation = tuple[jax.Array, jax.Array]
"""Sine and cosine, float[P, D] each, of the angles by which the patches' queries and keys are rotated."""


def resized(positions: jax.Array, size: tuple[int, int], *, grid: int, interpolation: str) -> jax.Array:
    """Returns the position embeddings of a grid of patches of another size.

    Args:
      positions: float[1, K + grid * grid, C]; the first K belong to tokens without a position and stay as they are.
      size: height and width of the new grid, in patches; they may be symbolic.
      grid: number of patches along each side of the square image that the embeddings were trained on.
      interpolation: one of INTERPOLATIONS. Corners of the corner patches stay in place; "bicubic_antialias" averages
        over the embeddings that fall together in a coarser grid.

    Returns:
      float[1, K + height * width, C].
    """
    first = positions.shape[1] - grid * grid
    square = positions[:, first:].reshape(1, grid, grid, positions.shape[2])
    if interpolation == "bilinear":
        square = ops.resize_bilinear(square, size)
    else:
        square = ops.resize_bicubic(square, size, antialias=interpolation == "bicubic_antialias")
    patches = square.reshape(1, size[0] * size[1], positions.shape[2])
    return lax.concatenate([positions[:, :first], patches], 1) if first else patches


def rotation(size: tuple[int, int], width: int, *, base: float = 100.0) -> Rotation:
    """Returns the axial rotary position embeddings of DINOv3 (Siméoni et al. 2025, https://arxiv.org/abs/2508.10104).

    The center of each patch has coordinates from -1 to 1 along height and width, whatever the size of the image. A
    quarter of the channels of a head each has one angle for the height, 2 pi y / base^(4 i / width), a quarter one for
    the width; the second half of the channels repeats the angles of the first.

    Args:
      size: height and width of the grid of patches; they may be symbolic.
      width: number of channels of a head; a multiple of 4.
      base: the longest period.

    Returns:
      Sine and cosine, float32[height * width, width] each.
    """
    angles = []
    for axis, length in enumerate(size):
        if isinstance(length, int):
            centers: Any = np.arange(0.5, length) / length * 2 - 1
        else:
            centers = (lax.iota(jnp.float32, length) + 0.5) / length * 2 - 1
        each = 2 * math.pi * centers[:, None] / base ** (4 * np.arange(width // 4) / width)
        each = jnp.asarray(each)[:, None] if axis == 0 else jnp.asarray(each)[None]
        angles.append(jnp.broadcast_to(each, (size[0], size[1], width // 4)))
    joined = jnp.concatenate(angles * 2, -1).reshape(size[0] * size[1], width)
    return jnp.sin(joined), jnp.cos(joined)


def rotated(x: jax.Array, by: Rotation) -> jax.Array:
    """Rotates pairs of channels, one of each half, of the last tokens (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    Args:
      x: queries or keys, float[B, N, heads, D].
      by: sine and cosine of the angles, float[P, D] each, for the last P of the N tokens; the others stay unchanged.

    Returns:
      [B, N, heads, D] of x's dtype.
    """
    sine, cosine = (each[:, None] for each in by)
    first = x.shape[1] - sine.shape[0]
    patches = x[:, first:]
    lower, upper = jnp.split(patches, 2, -1)
    turned = patches * cosine + jnp.concatenate([-upper, lower], -1) * sine
    return lax.concatenate([x[:, :first], turned.astype(x.dtype)], 1)
