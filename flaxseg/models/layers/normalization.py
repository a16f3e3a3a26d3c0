"""Normalization layers: batch normalization with the statistics of its references, and group normalization."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]

NORMS = ("batch", "group", "none")
"""The kinds of normalization that `norm` returns."""


def norm(
    kind: str,
    features: int,
    *,
    train: bool,
    dtype: Any,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    name: str | None = "norm",
) -> Activation:
    """Returns a normalization layer for `features` channels, or the identity for "none".

    "group" has 16 channels per group (fewer where 16 does not divide `features`), the choice of its paper that does
    not depend on the number of channels (Wu and He 2018, https://arxiv.org/abs/1803.08494).

    Args:
      kind: "batch", "group" or "none".
      features: number of channels.
      train: normalize by the batch's own statistics; for "batch" only.
      dtype: float32 or bfloat16, the data type of the output.
      momentum: the decay rate of the running statistics; for "batch" only.
      epsilon: added to the variance; for "batch" only.
      name: the layer's name.

    Raises:
      ValueError: `kind` is not one of NORMS.
    """
    if kind == "batch":
        return BatchNorm(not train, momentum=momentum, epsilon=epsilon, dtype=dtype, name=name)
    if kind == "group":
        return nn.GroupNorm(num_groups=None, group_size=math.gcd(16, features), epsilon=1e-5, dtype=dtype, name=name)
    if kind == "none":
        return identity
    raise ValueError(f"norm {kind!r}: allowed are {', '.join(NORMS)}")


# With so few values per channel, a second pass costs nothing. The values may be means over whole feature maps, which
# differ so little that E[x^2] - E[x]^2 would consist of rounding errors alone.
_FEW_VALUES = 1024


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167) with the variables of Flax's own.

    Statistics are computed in at least float32 over the global batch: without an axis name, as a batch sharded under
    `jax.jit` requires. Unlike Flax's, the running variance is the unbiased one (over n - 1), as in PyTorch and
    TensorFlow, so that pretrained statistics can be updated further.

    Attributes:
      use_running_average: normalize by the running statistics, and leave them unchanged, instead of by the batch's.
      momentum: the decay rate of the running statistics.
      epsilon: added to the variance.
      dtype: float32 or bfloat16, the data type of the output.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool | None = None) -> jax.Array:
        """Returns the normalized features.

        Args:
          x: [..., C].
          use_running_average: overrides the attribute, for example in a frozen module; None: the attribute is used.

        Returns:
          [..., C], of type `dtype`.
        """
        if use_running_average is None:
            use_running_average = self.use_running_average
        shape = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), shape, jnp.float32)
        wide, axes = x.astype(jnp.promote_types(x.dtype, jnp.float32)), tuple(range(x.ndim - 1))
        if use_running_average:
            mean, variance = running_mean.value, running_var.value
        else:
            count = x.size // x.shape[-1]
            mean = wide.mean(axes)
            if count <= _FEW_VALUES:
                variance = jnp.square(wide - mean).mean(axes)
            else:
                variance = jnp.maximum(jnp.square(wide).mean(axes) - jnp.square(mean), 0)
            if not self.is_initializing():
                unbiased = variance * (count / max(count - 1, 1))
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        return ((wide - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias).astype(self.dtype)


def identity(x: jax.Array) -> jax.Array:
    """Returns `x`: the activation of a block without one."""
    return x
