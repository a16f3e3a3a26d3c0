"""The soft Matthews correlation coefficient as a loss."""

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import check_two_classes, is_counted, one_hot_target, probabilities

_EPSILON = 1e-5
"""Added to each sum, so that the correlation is defined where only one class is there."""


def mcc(logits: jax.Array, label: jax.Array) -> jax.Array:
    r"""Returns 1 minus the Matthews correlation of each class against the rest, averaged over all classes.

    .. math:: L = \frac{1}{K} \sum_k 1 - \frac{TP_k TN_k - FP_k FN_k}
              {\sqrt{(TP_k + FP_k)(TP_k + FN_k)(TN_k + FP_k)(TN_k + FN_k)}}

    where TP, TN, FP and FN are sums of probabilities over all counted pixels of the batch, each plus 1e-5. A class
    that the labels lack, or hold alone, correlates with nothing. The 1e-5 then makes its term: 1/2 where all pixels
    are right, and about 1 otherwise.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels of IGNORE_LABEL count in no sum. Any other label that is no class makes the loss NaN.

    Returns:
      float32 scalar, 0 (all right) to 2 (all wrong); 0 when every pixel is ignored.

    Raises:
      ConfigError: K = 1.

    Example:
      >>> logits = jnp.array([[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
      >>> round(float(mcc(logits, jnp.array([0, 1, 0]))), 3)  # 1 - (1 * 1 - 1 * 0) / sqrt(2 * 1 * 1 * 2)
      0.5

    Abhishek and Hamarneh 2021, https://arxiv.org/abs/2010.13454
    """
    check_two_classes(logits, "mcc")
    counted = is_counted(label)
    p, t = probabilities(logits, label), one_hot_target(label, logits.shape[-1])
    # Each is summed by itself: a difference of two large sums could come out below 0. Only the last of the products is
    # not 0 where a pixel is ignored.
    products = p * t, p * (1 - t), (1 - p) * t, jnp.where(counted[..., None], (1 - p) * (1 - t), 0.0)
    tp, fp, fn, tn = (product.sum(tuple(range(label.ndim))) + _EPSILON for product in products)
    correlation = (tp * tn - fp * fn) / jnp.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return jnp.where(counted.any(), 1 - correlation.mean(), 0.0)
