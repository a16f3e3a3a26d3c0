"""The Gaussian error linear unit, in a form that is fast and keeps little for its gradient."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """GELU, `x` times the share of a normal distribution that lies below it, computed in float32.

    Of Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415. Equal to `jax.nn.gelu(x, approximate=False)`, which
    takes several times as long on a CPU, and keeps three arrays for its gradient where this keeps one.

    Args:
      x: float, of any shape.

    Returns:
      The same shape and dtype.
    """
    wide = _wide(x)
    return (wide * _share_below(wide)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals: Sequence[jax.Array], tangents: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    wide = _wide(x)
    share = _share_below(wide)
    density = jnp.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    return (wide * share).astype(x.dtype), tangent * (share + wide * density).astype(x.dtype)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _share_below(x: jax.Array) -> jax.Array:
    # erf, not erfc: XLA has a short polynomial for it. What is lost far below 0, `x` multiplies to 1e-7 at most.
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))
