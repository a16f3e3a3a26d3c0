"""Cross-entropy with softmax probabilities, class weights and label smoothing."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import FRACTION
from flaxseg.losses.pixels import (
    check_softmax,
    class_weight_vector,
    masked_logits,
    pixel_weights,
    valid_mask,
    values_at_target,
)


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    r"""Returns the cross-entropy, averaged over valid pixels with the weights of their classes.

    .. math:: L = -\frac{\sum_i (1-\epsilon) w_{y_i} \log p_{i,y_i} + \frac{\epsilon}{K} \sum_k w_k \log p_{i,k}}
              {\sum_i w_{y_i}}

    with softmax probabilities p, classes y, class weights w and label smoothing epsilon.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from numerator and denominator. Out-of-range labels
        yield NaN.
      class_weights: K weights, each at least 0, not all 0; None for equal weights.
      label_smoothing: the fraction of the target that is spread evenly over all classes, from 0 to 1.

    Returns:
      float32 scalar of at least 0; 0 if all pixels are ignored or have weight 0.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[2.0, 0.0], [0.0, 0.0]])
      >>> float(cross_entropy(logits, jnp.array([0, 255])))  # log(1 + exp(-2))
      0.1269...

    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    check_softmax(logits, label, "cross_entropy")
    FRACTION.check("label_smoothing", label_smoothing)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p = jax.nn.log_softmax(masked_logits(logits, label))
    total, loss = weights.sum(), -weights * values_at_target(log_p, label)
    if label_smoothing:
        weighted_log_p = log_p * class_weight_vector(class_weights, logits.shape[-1])
        spread = jnp.where(valid_mask(label), -weighted_log_p.mean(-1), 0.0)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    # The comparison is False for NaN, so that the NaN of an out-of-range label is kept.
    return jnp.where(total == 0, 0.0, loss.sum() / jnp.where(total == 0, 1.0, total))
