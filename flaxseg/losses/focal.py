"""Focal losses: cross-entropies in which easy pixels are down-weighted."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import FRACTION, NON_NEGATIVE
from flaxseg.losses.pixels import (
    check_arrays,
    check_softmax,
    log_sigmoid,
    masked_logits,
    one_vs_rest_target,
    pixel_weights,
    safe_power,
    target_log_probability,
    valid_mask,
    weighted_mean,
)


def focal(
    logits: jax.Array, label: jax.Array, *, gamma: float = 2.0, class_weights: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns the focal loss of softmax probabilities, averaged over valid pixels with the weights of their classes.

    .. math:: L = -\frac{\sum_i w_{y_i} (1 - p_{i,y_i})^\gamma \log p_{i,y_i}}{\sum_i w_{y_i}}

    with softmax probabilities p, classes y and class weights w. Each pixel has one term, that of its own class. The
    FocalLoss("multiclass") of segmentation_models_pytorch instead separates each class from the rest with a sigmoid,
    which is `binary_focal`.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from numerator and denominator. Out-of-range labels
        yield NaN.
      gamma: the focusing parameter, at least 0. 0 is cross-entropy; the larger it is, the more easy pixels are
        down-weighted.
      class_weights: K weights, the paper's alpha, each at least 0, not all 0; None for equal weights.

    Returns:
      float32 scalar of at least 0; 0 if all pixels are ignored or have weight 0.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> float(focal(logits, jnp.array([0, 255])))  # (1 - 1/2) ** 2 * log(2)
      0.1732...

    Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    check_softmax(logits, label, "focal")
    NON_NEGATIVE.check("gamma", gamma)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p = target_log_probability(logits, label)
    return weighted_mean(-safe_power(-jnp.expm1(log_p), gamma) * log_p, weights)


def binary_focal(logits: jax.Array, label: jax.Array, *, gamma: float = 2.0, alpha: float | None = None) -> jax.Array:
    r"""Returns the focal loss of one sigmoid per class, averaged over classes and valid pixels.

    .. math:: L = -\frac{1}{N K} \sum_{i,k} \alpha_{i,k} (1 - p_{i,k})^\gamma \log p_{i,k}

    where p is the sigmoid's probability of the correct decision, whether pixel i belongs to class k, and alpha is
    `alpha` for pixels that do and `1 - alpha` for pixels that do not. Each class is separated from the rest, as in
    segmentation_models_pytorch's FocalLoss, both "binary" (K = 1) and "multiclass".

    Args:
      logits: float[..., K]. K = 1 separates one class from the background.
      label: integer[...], class indices; 0 and 1 for K = 1. Pixels labeled IGNORE_LABEL are excluded from numerator
        and denominator. Out-of-range labels yield NaN.
      gamma: the focusing parameter, at least 0. 0 is binary cross-entropy; the larger it is, the more easy pixels are
        down-weighted.
      alpha: the weight of positive pixels, from 0 to 1, where negative pixels have 1 - alpha; None for weights of 1.

    Returns:
      float32 scalar of at least 0; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, or an option is out of range.

    Example:
      >>> float(binary_focal(jnp.zeros((2, 1)), jnp.array([1, 255]), alpha=0.25))  # 0.25 * (1 - 1/2) ** 2 * log(2)
      0.0433...

    Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    check_arrays(logits, label)
    NON_NEGATIVE.check("gamma", gamma)
    if alpha is not None:
        FRACTION.check("alpha", alpha)
    target = one_vs_rest_target(label, logits.shape[-1])
    margin = (2 * target - 1) * masked_logits(logits, label)
    loss = -safe_power(jax.nn.sigmoid(-margin), gamma) * log_sigmoid(margin)
    if alpha is not None:
        loss *= alpha * target + (1 - alpha) * (1 - target)
    return weighted_mean(loss.mean(-1), valid_mask(label).astype(jnp.float32))
