"""The loss based on the soft Matthews correlation coefficient."""

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import check_softmax, one_hot_target, probabilities, valid_mask

_EPSILON = 1e-5
"""Added to each sum, so that the correlation is defined if only one class is present."""


def mcc(logits: jax.Array, label: jax.Array) -> jax.Array:
    r"""Returns 1 minus the Matthews correlation coefficient of each class against the rest, averaged over classes.

    .. math:: L = \frac{1}{K} \sum_k 1 - \frac{TP_k TN_k - FP_k FN_k}
              {\sqrt{(TP_k + FP_k)(TP_k + FN_k)(TN_k + FP_k)(TN_k + FN_k)}}

    where TP, TN, FP and FN are sums of softmax probabilities over all valid pixels of the batch, each plus 1e-5. The
    correlation of a class that no pixel, or every pixel, belongs to is undefined; because of the 1e-5, its term is then
    1/2 if all predictions are correct, and about 1 otherwise.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.

    Returns:
      float32 scalar from 0 (all correct) to 2 (all wrong); 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, or K = 1.

    Example:
      >>> logits = jnp.array([[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
      >>> round(float(mcc(logits, jnp.array([0, 1, 0]))), 3)  # 1 - (1 * 1 - 1 * 0) / sqrt(2 * 1 * 1 * 2)
      0.5

    Abhishek and Hamarneh 2021, https://arxiv.org/abs/2010.13454
    """
    check_softmax(logits, label, "mcc")
    valid = valid_mask(label)
    p, t = probabilities(logits, label), one_hot_target(label, logits.shape[-1])
    # Each sum is computed separately, because the difference of two large sums could round to a negative number. The
    # last product is the only one that is not already 0 at ignored pixels.
    products = p * t, p * (1 - t), (1 - p) * t, jnp.where(valid[..., None], (1 - p) * (1 - t), 0.0)
    tp, fp, fn, tn = (product.sum(tuple(range(label.ndim))) + _EPSILON for product in products)
    correlation = (tp * tn - fp * fn) / jnp.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return jnp.where(valid.any(), 1 - correlation.mean(), 0.0)
