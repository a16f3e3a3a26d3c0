"""The probability of the most likely class, with the same bits in whatever batch and on however many devices."""

import math

import jax
import jax.numpy as jnp

_FRACTION_BITS = 24
_ONE = 2**30
_TAYLOR = [round(_ONE * (-math.log(2)) ** power / math.factorial(power)) for power in range(8)]
"""Of 2**-x, with an error of 5e-9 at most for x in -0.5..0.5."""


def confidence(logits: jax.Array) -> jax.Array:
    """Returns the largest softmax probability, float32[...], within 3e-7; NaN where the largest logit is not finite.

    Compilers round an exponential, and a sum of many numbers, differently with the shape of an array. Here products
    are rounded to integers before anything is added to them, and sums are of integers.

    Args:
      logits: float32[..., K], K up to 255.
    """
    top = logits.max(-1, keepdims=True)
    defined = jnp.isfinite(top)
    exponentials = _exponential(jnp.where(defined, logits - top, 0))
    # In two halves, which fit 32 bits; putting them together rounds once.
    high, low = (part.sum(-1).astype(jnp.float32) for part in (exponentials >> 16, exponentials & 0xFFFF))
    return jnp.where(defined[..., 0], _ONE / (high * 2**16 + low), jnp.nan)


def _exponential(x: jax.Array) -> jax.Array:
    """int32[...], 2**30 times exp(x) of float32[...] of at most 0."""
    # exp(x) is 2**-(whole + rest); below exp(-24) nothing is left of it.
    power = jnp.round(jnp.minimum(-x, 24) * (2**_FRACTION_BITS / math.log(2))).astype(jnp.int32)
    whole = (power + 2 ** (_FRACTION_BITS - 1)) >> _FRACTION_BITS
    rest = (power - (whole << _FRACTION_BITS)).astype(jnp.float32) * 2.0**-_FRACTION_BITS
    series = jnp.full(x.shape, _TAYLOR[-1], jnp.int32)
    for coefficient in _TAYLOR[-2::-1]:
        series = jnp.round(series.astype(jnp.float32) * rest).astype(jnp.int32) + coefficient
    return series >> jnp.minimum(whole, 31)
