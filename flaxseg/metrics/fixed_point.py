"""Exact sums of many large integers without 64-bit arithmetic on the device: their bytes are summed separately."""

import jax
import jax.numpy as jnp
import numpy as np


def split_bytes(values: jax.Array, count: int) -> jax.Array:
    """Returns int32[..., count]: the bytes of int32[...] of at least 0, lowest first; the last holds all higher bits.

    Sums of fewer than 2**23 such bytes fit in int32; `join_bytes` combines the sums.
    """
    parts = [(values >> (8 * i)) & 255 for i in range(count - 1)]
    return jnp.stack([*parts, values >> (8 * (count - 1))], axis=-1)


def join_bytes(sums: np.ndarray) -> np.ndarray:
    """Returns int64[...]: the sums of the values whose bytes were summed in int64[..., count]."""
    return (sums.astype(np.int64) << (8 * np.arange(sums.shape[-1]))).sum(-1)
