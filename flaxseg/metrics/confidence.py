"""Confidence, computed so that its bits do not depend on the batch or the number of devices."""

import math

import jax
import jax.numpy as jnp

_FRACTION_BITS = 24
_ONE = 2**30
_TAYLOR = [round(_ONE * (-math.log(2)) ** power / math.factorial(power)) for power in range(8)]
"""Taylor coefficients of 2**-x, in units of 2**-30; the error is at most 5e-9 for x in -0.5..0.5."""


def confidence(logits: jax.Array) -> jax.Array:
    """Returns the largest softmax probability, float32[...], to within 3e-7; NaN if the largest logit is not finite.

    Compilers round exponentials and floating-point sums differently depending on the shape of the array. Here, products
    are rounded to integers before they are added up, and all sums are of integers.

    Args:
      logits: float32[..., K], K up to 255.
    """
    top = logits.max(-1, keepdims=True)
    defined = jnp.isfinite(top)
    exponentials = _exponential(jnp.where(defined, logits - top, 0))
    # Sums of the upper and lower 16 bits each fit in 32 bits; combining them rounds once.
    high, low = (part.sum(-1).astype(jnp.float32) for part in (exponentials >> 16, exponentials & 0xFFFF))
    return jnp.where(defined[..., 0], _ONE / (high * 2**16 + low), jnp.nan)


def _exponential(x: jax.Array) -> jax.Array:
    """Returns int32[...]: 2**30 exp(x) for float32[...] of at most 0."""
    # exp(x) is 2**-(whole + rest); below exp(-24) the result rounds to 0.
    power = jnp.round(jnp.minimum(-x, 24) * (2**_FRACTION_BITS / math.log(2))).astype(jnp.int32)
    whole = (power + 2 ** (_FRACTION_BITS - 1)) >> _FRACTION_BITS
    rest = (power - (whole << _FRACTION_BITS)).astype(jnp.float32) * 2.0**-_FRACTION_BITS
    series = jnp.full(x.shape, _TAYLOR[-1], jnp.int32)
    for coefficient in _TAYLOR[-2::-1]:
        series = jnp.round(series.astype(jnp.float32) * rest).astype(jnp.int32) + coefficient
    return series >> jnp.minimum(whole, 31)
