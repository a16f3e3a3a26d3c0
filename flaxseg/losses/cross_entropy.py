"""Cross-entropy of softmax probabilities."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    at_target,
    check_share,
    check_two_classes,
    class_weight_vector,
    counted_logits,
    is_counted,
    pixel_weights,
)


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    r"""Returns the weighted mean cross-entropy over the pixels that are not ignored.

    .. math:: L = -\frac{\sum_i (1-\epsilon) w_{y_i} \log p_{i,y_i} + \frac{\epsilon}{K} \sum_k w_k \log p_{i,k}}
              {\sum_i w_{y_i}}

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels of IGNORE_LABEL count neither above nor below the line. Any other label that is
        no class makes the loss NaN.
      class_weights: K weights of at least 0, not all 0; None: all 1.
      label_smoothing: the share epsilon, 0 to 1, of the target that is spread over all classes.

    Returns:
      float32 scalar; 0 when every pixel is ignored or has weight 0.

    Raises:
      ConfigError: class weights not one for each class, negative or all 0, a smoothing outside 0..1, or K = 1.

    Example:
      >>> logits = jnp.array([[2.0, 0.0], [0.0, 0.0]])
      >>> float(cross_entropy(logits, jnp.array([0, 255])))  # log(1 + exp(-2))
      0.1269...

    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    check_two_classes(logits, "cross_entropy")
    check_share("label_smoothing", label_smoothing)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p = jax.nn.log_softmax(counted_logits(logits, label))
    total, loss = weights.sum(), -weights * at_target(log_p, label)
    if label_smoothing:
        of_classes = log_p * class_weight_vector(class_weights, logits.shape[-1])
        spread = jnp.where(is_counted(label), -of_classes.mean(-1), 0.0)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    # Written so that NaN, of a label that is no class, is kept.
    return jnp.where(total == 0, 0.0, loss.sum() / jnp.where(total == 0, 1.0, total))
