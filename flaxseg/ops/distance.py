"""The exact Euclidean distance transform."""

import jax
import jax.numpy as jnp


def squared_distance(mask: jax.Array) -> jax.Array:
    r"""Squared Euclidean distance of each pixel to the nearest one that is True.

    .. math:: D(y, x) = \min_{v, u:\ m(v, u)} (y - v)^2 + (x - u)^2

    First along the longer side, by running maxima and minima of positions. Then along the shorter side every pixel is
    compared with every other of its line, H W min(H, W) operations in all: they fuse into one reduction that keeps
    nothing of them in memory, and are faster than methods of fewer steps that depend on one another.

    Args:
      mask: bool[..., H, W].

    Returns:
      float32[..., H, W] in pixels squared: 0 where `mask` is True, inf everywhere in a picture that is nowhere True.
      Exact up to distances of 4096 pixels, and rounded to float32 above.

    The split into two axes: Meijster et al. 2000, https://doi.org/10.1007/0-306-47025-X_36
    """
    height, width = mask.shape[-2:]
    if height < width:
        return squared_distance(mask.mT).mT
    along_columns = _distance_in_column(mask) ** 2
    position = jnp.arange(width, dtype=jnp.float32)
    # The minimum is over the last axis, where lines lie together in memory.
    return (along_columns[..., None, :] + (position[:, None] - position) ** 2).min(-1)


def _distance_in_column(mask: jax.Array) -> jax.Array:
    """float32[..., H, W]: the distance to the nearest True pixel of the same column, inf where there is none."""
    height, axis = mask.shape[-2], mask.ndim - 2
    row = jax.lax.broadcasted_iota(jnp.int32, mask.shape, axis)
    # Where a column has no True pixel above or below, one is made up that is farther than any can be.
    above = jax.lax.cummax(jnp.where(mask, row, -height), axis=axis)
    below = jax.lax.cummin(jnp.where(mask, row, 2 * height), axis=axis, reverse=True)
    distance = jnp.minimum(row - above, below - row)
    return jnp.where(distance < height, distance.astype(jnp.float32), jnp.inf)
