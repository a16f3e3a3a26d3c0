"""Cross-entropy with another first coefficient of its polynomial expansion."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_at_least,
    check_two_classes,
    pixel_weights,
    target_log_probability,
    weighted_mean,
)


def poly_cross_entropy(
    logits: jax.Array, label: jax.Array, *, epsilon: float = 1.0, class_weights: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns the weighted mean of cross-entropy plus epsilon times the missing probability (Poly-1).

    .. math:: L = \frac{\sum_i w_{y_i} (-\log p_{i,y_i} + \epsilon (1 - p_{i,y_i}))}{\sum_i w_{y_i}}

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels of IGNORE_LABEL count neither above nor below the line. Any other label that is
        no class makes the loss NaN.
      epsilon: at least -1, where the first coefficient of the expansion is 0; 0 is cross-entropy.
      class_weights: K weights of at least 0, not all 0; None: all 1.

    Returns:
      float32 scalar; 0 when every pixel is ignored or has weight 0.

    Raises:
      ConfigError: an epsilon below -1, class weights not one for each class, negative or all 0, or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> float(poly_cross_entropy(logits, jnp.array([0, 255]), epsilon=2.0))  # log(2) + 2 * (1 - 1/2)
      1.6931...

    Leng et al. 2022, https://arxiv.org/abs/2204.12511
    """
    check_two_classes(logits, "poly_cross_entropy")
    check_at_least("epsilon", epsilon, -1)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p = target_log_probability(logits, label)
    return weighted_mean(-log_p - epsilon * jnp.expm1(log_p), weights)
