"""Focal losses: cross-entropy in which pixels that are right already count less."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_at_least,
    check_share,
    check_two_classes,
    counted_logits,
    is_counted,
    log_sigmoid,
    one_against_rest_target,
    pixel_weights,
    power,
    target_log_probability,
    weighted_mean,
)


def focal(
    logits: jax.Array, label: jax.Array, *, gamma: float = 2.0, class_weights: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns the weighted mean focal loss of softmax probabilities over the pixels that are not ignored.

    .. math:: L = -\frac{\sum_i w_{y_i} (1 - p_{i,y_i})^\gamma \log p_{i,y_i}}{\sum_i w_{y_i}}

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels of IGNORE_LABEL count neither above nor below the line. Any other label that is
        no class makes the loss NaN.
      gamma: at least 0; 0 is cross-entropy, and the higher it is, the less count pixels that are right already.
      class_weights: the paper's alpha: K weights of at least 0, not all 0; None: all 1.

    Returns:
      float32 scalar; 0 when every pixel is ignored or has weight 0.

    Raises:
      ConfigError: a negative gamma, class weights not one for each class, negative or all 0, or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> float(focal(logits, jnp.array([0, 255])))  # (1 - 1/2) ** 2 * log(2)
      0.1732...

    Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    check_two_classes(logits, "focal")
    check_at_least("gamma", gamma, 0)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p = target_log_probability(logits, label)
    return weighted_mean(-power(-jnp.expm1(log_p), gamma) * log_p, weights)


def binary_focal(logits: jax.Array, label: jax.Array, *, gamma: float = 2.0, alpha: float | None = None) -> jax.Array:
    r"""Returns the mean focal loss of each class against the rest, over classes and the pixels that are not ignored.

    .. math:: L = -\frac{1}{N K} \sum_{i,k} \alpha_{i,k} (1 - p_{i,k})^\gamma \log p_{i,k}

    where p is the sigmoid's probability of the right answer, and alpha is `alpha` where the answer is yes and
    `1 - alpha` where it is no.

    Args:
      logits: float[..., K]. K = 1 is one class against the background.
      label: integer[...], class indices, for K = 1 0 and 1; pixels of IGNORE_LABEL do not count. Any other label
        that is no class makes the loss NaN.
      gamma: at least 0; 0 is binary cross-entropy, and the higher it is, the less count pixels that are right already.
      alpha: 0 to 1, the weight of pixels of the class; None: both weights are 1.

    Returns:
      float32 scalar; 0 when every pixel is ignored.

    Raises:
      ConfigError: a negative gamma, or an alpha outside 0..1.

    Example:
      >>> float(binary_focal(jnp.zeros((2, 1)), jnp.array([1, 255]), alpha=0.25))  # 0.25 * (1 - 1/2) ** 2 * log(2)
      0.0433...

    Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    check_at_least("gamma", gamma, 0)
    if alpha is not None:
        check_share("alpha", alpha)
    target = one_against_rest_target(label, logits.shape[-1])
    margin = (2 * target - 1) * counted_logits(logits, label)
    loss = -power(jax.nn.sigmoid(-margin), gamma) * log_sigmoid(margin)
    if alpha is not None:
        loss *= alpha * target + (1 - alpha) * (1 - target)
    return weighted_mean(loss.mean(-1), is_counted(label).astype(jnp.float32))
