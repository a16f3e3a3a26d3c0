"""Exact sums of many large integers without 64-bit arithmetic on the device: their bytes are summed separately."""

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.metrics.counting import histogram


def split_bytes(values: jax.Array, count: int) -> jax.Array:
    """Returns int32[..., count]: the bytes of int32[...] of at least 0, lowest first; the last holds all higher bits.

    Sums of fewer than 2**23 such bytes fit in int32; `join_bytes` combines the sums.
    """
    parts = [(values >> (8 * i)) & 255 for i in range(count - 1)]
    return jnp.stack([*parts, values >> (8 * (count - 1))], axis=-1)


def sums_by_bin(index: jax.Array, bins: int, values: jax.Array, count: int) -> jax.Array:
    """Returns int32[bins, count, 4]: the sum of the values in each bin, which applying `join_bytes` twice combines.

    Values are split into bytes before the sum over pixels, and again before the sum over images, so that neither sum
    can overflow: exact for images of less than 2**23 pixels, and batches of less than 2**23 images and 2**31 pixels.

    Args:
      index: int32[B, ...] of at least 0; pixels with an index of `bins` or more are excluded.
      bins: the number of bins.
      values: int32[B, ...] of at least 0, and below 256**count.
      count: number of bytes of a value.
    """
    parts = [histogram(index, bins, amount) for amount in jnp.moveaxis(split_bytes(values, count), -1, 0)]
    return split_bytes(jnp.stack(parts, axis=-1), 4).sum(0)


def join_bytes(sums: np.ndarray) -> np.ndarray:
    """Returns int64[...]: the sums of the values whose bytes were summed in int64[..., count]."""
    return (sums.astype(np.int64) << (8 * np.arange(sums.shape[-1]))).sum(-1)
