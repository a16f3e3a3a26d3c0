"""Poly-1 cross-entropy: cross-entropy with a modified first coefficient of its polynomial expansion."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import Range
from flaxseg.losses.pixels import (
    check_softmax,
    pixel_weights,
    target_log_probability,
    weighted_mean,
)


def poly_cross_entropy(
    logits: jax.Array, label: jax.Array, *, epsilon: float = 1.0, class_weights: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns the Poly-1 cross-entropy, averaged over valid pixels with the weights of their classes.

    .. math:: L = \frac{\sum_i w_{y_i} (-\log p_{i,y_i} + \epsilon (1 - p_{i,y_i}))}{\sum_i w_{y_i}}

    with softmax probabilities p, classes y and class weights w.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from numerator and denominator. Out-of-range labels
        yield NaN.
      epsilon: added to the first coefficient of the expansion in powers of 1 - p, which is 1; at least -1. With 0 the
        loss is cross-entropy.
      class_weights: K weights, each at least 0, not all 0; None for equal weights.

    Returns:
      float32 scalar of at least 0; 0 if all pixels are ignored or have weight 0.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> float(poly_cross_entropy(logits, jnp.array([0, 255]), epsilon=2.0))  # log(2) + 2 * (1 - 1/2)
      1.6931...

    Leng et al. 2022, https://arxiv.org/abs/2204.12511
    """
    check_softmax(logits, label, "poly_cross_entropy")
    Range(-1).check("epsilon", epsilon)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p = target_log_probability(logits, label)
    return weighted_mean(-log_p - epsilon * jnp.expm1(log_p), weights)
