"""Exact sums of many large integers without 64-bit arithmetic on the device, by their bytes."""

import jax
import jax.numpy as jnp
import numpy as np


def split_bytes(values: jax.Array, count: int) -> jax.Array:
    """Returns int32[..., count], the bytes of int32[...] of at least 0, lowest first; the last holds all that is left.

    Sums of such parts fit int32 over 2**23 values and more, and are made whole by join_bytes().
    """
    parts = [(values >> (8 * i)) & 255 for i in range(count - 1)]
    return jnp.stack([*parts, values >> (8 * (count - 1))], axis=-1)


def join_bytes(sums: np.ndarray) -> np.ndarray:
    """Returns int64[...], the sums of what was split into the last axis of int64[..., count]."""
    return (sums.astype(np.int64) << (8 * np.arange(sums.shape[-1]))).sum(-1)
