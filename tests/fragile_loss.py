"""A loss of the user's own that is NaN for one batch, which it recognizes by the labels of its first example."""

import jax
import jax.numpy as jnp

from flaxseg.losses.cross_entropy import cross_entropy

NAME = "fragile_loss:fragile"


def fragile(logits: jax.Array, label: jax.Array, *, at: int = -1) -> jax.Array:
    """Returns the cross-entropy, or NaN if the first label of the batch has the checksum `at`."""
    return jnp.where(checksum(label[0]) == at, jnp.nan, 1.0) * cross_entropy(logits, label)


def checksum(label: jax.Array) -> jax.Array:
    """Returns a number, at least 0, that identifies a label [H, W]."""
    weights = 1 + jnp.arange(label.size, dtype=jnp.int32) % 9973
    return (label.ravel().astype(jnp.int32) * weights).sum() % 1_000_003
