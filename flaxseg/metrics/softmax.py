"""Softmax probabilities, computed so that their bits do not depend on the batch or the number of devices.

Compilers round exponentials, logarithms and floating-point sums differently depending on the shape of the array. Here,
products are rounded to integers before they are added up, and all sums are of integers.
"""

import math

import jax
import jax.numpy as jnp

_FRACTION_BITS = 24
_ONE = 2**30
_TAYLOR = [round(_ONE * (-math.log(2)) ** power / math.factorial(power)) for power in range(8)]
"""Taylor coefficients of 2**-x, in units of 2**-30; the error is at most 5e-9 for x in -0.5..0.5."""

_LOG_BITS = 27
_LOG_TWO = round(math.log(2) * 2**_LOG_BITS)
_ARTANH = [round(2**_LOG_BITS / power) for power in (1, 3, 5, 7, 9)]
"""Coefficients of artanh(x) = x + x**3 / 3 + ..., in units of 2**-27; the error is below 4e-10 for x in -0.18..0.18."""

CROSS_ENTROPY_BITS = 20
"""The terms of `cross_entropy` are in units of 2 to the power of minus this."""

_LARGEST = 2000.0


def confidence(logits: jax.Array) -> jax.Array:
    """Returns the largest softmax probability, float32[...], to within 3e-7; NaN if the largest logit is not finite.

    Args:
      logits: float32[..., K], K up to 255.
    """
    top = logits.max(-1, keepdims=True)
    defined = jnp.isfinite(top)
    return jnp.where(defined[..., 0], _ONE / _sum_of_exponentials(logits, top), jnp.nan)


def cross_entropy(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns minus the natural logarithm of the softmax probability of each label.

    The error is at most 1e-6, and that of the difference of two logits in float32.

    Args:
      logits: float32[..., K], K up to 255.
      label: integer[...], classes; others have the value of some class.

    Returns:
      int32[...]: the values in units of 2**-20, at most 2000 plus log K; and bool[...]: whether they are defined, that
      is, the largest logit is finite, and that of the label is not NaN.
    """
    top = logits.max(-1, keepdims=True)
    index = jnp.clip(label.astype(jnp.int32), 0, logits.shape[-1] - 1)
    below = (top - jnp.take_along_axis(logits, index[..., None], axis=-1))[..., 0]
    defined = jnp.isfinite(top[..., 0]) & ~jnp.isnan(below)
    difference = jnp.round(jnp.where(defined, jnp.minimum(below, _LARGEST), 0) * 2**CROSS_ENTROPY_BITS)
    logarithm = _logarithm(_sum_of_exponentials(logits, top) / _ONE)
    dropped = _LOG_BITS - CROSS_ENTROPY_BITS
    return difference.astype(jnp.int32) + ((logarithm + 2 ** (dropped - 1)) >> dropped), defined


def _sum_of_exponentials(logits: jax.Array, top: jax.Array) -> jax.Array:
    """Returns float32[...]: 2**30 times the sum of exp(logits - top), where the largest logits are finite."""
    exponentials = _exponential(jnp.where(jnp.isfinite(top), logits - top, 0))
    # Sums of the upper and lower 16 bits each fit in 32 bits; combining them rounds once.
    high, low = (part.sum(-1).astype(jnp.float32) for part in (exponentials >> 16, exponentials & 0xFFFF))
    return high * 2**16 + low


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


def _logarithm(x: jax.Array) -> jax.Array:
    """Returns int32[...]: 2**27 log(x) for float32[...] of at least 1 and below 2**20."""
    mantissa, exponent = jnp.frexp(x)
    is_low = mantissa < math.sqrt(0.5)
    mantissa = jnp.where(is_low, 2 * mantissa, mantissa)
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    series = jnp.full(x.shape, _ARTANH[-1], jnp.int32)
    for coefficient in _ARTANH[-2::-1]:
        series = jnp.round(series.astype(jnp.float32) * square).astype(jnp.int32) + coefficient
    # log(x) is 2 artanh((x - 1) / (x + 1)).
    rest = 2 * jnp.round(series.astype(jnp.float32) * ratio).astype(jnp.int32)
    return (exponent - is_low) * _LOG_TWO + rest
