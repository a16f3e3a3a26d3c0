"""Binary cross-entropy: the cross-entropy of a sigmoid per class."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import FRACTION, ArgumentError
from flaxseg.losses.pixels import (
    check_arrays,
    check_one_per_class,
    log_sigmoid,
    masked_logits,
    one_vs_rest_target,
    valid_mask,
    weighted_mean,
)


def binary_cross_entropy(
    logits: jax.Array, label: jax.Array, *, label_smoothing: float = 0.0, pos_weight: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns the binary cross-entropy, averaged over classes and valid pixels.

    .. math:: L = -\frac{1}{N K} \sum_{i,k} v_k t_{i,k} \log \sigma(x_{i,k}) + (1 - t_{i,k}) \log \sigma(-x_{i,k})

    with logits x, targets t, and N valid pixels.

    Args:
      logits: float[..., K]. K = 1 separates one class from the background.
      label: integer[...], class indices; 0 and 1 for K = 1. Pixels labeled IGNORE_LABEL are excluded from numerator
        and denominator. Out-of-range labels yield NaN.
      label_smoothing: s, from 0 to 1; the targets t are 1 - s for a pixel's own class and s for the others.
      pos_weight: v, one weight of the pixels of each class, such as (1, 3), each at least 0; None for weights of 1.

    Returns:
      float32 scalar of at least 0; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, or the number of weights is not K.

    Example:
      >>> float(binary_cross_entropy(jnp.array([[2.0], [5.0]]), jnp.array([1, 255])))  # log(1 + exp(-2))
      0.1269...

    Good 1952, https://doi.org/10.1111/j.2517-6161.1952.tb00104.x
    """
    check_arrays(logits, label)
    num_classes = logits.shape[-1]
    FRACTION.check("label_smoothing", label_smoothing)
    weights = 1.0 if pos_weight is None else _weight_vector(pos_weight, num_classes)
    target = one_vs_rest_target(label, num_classes)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing * (1 - target)
    x = masked_logits(logits, label)
    loss = -(weights * target * log_sigmoid(x) + (1 - target) * log_sigmoid(-x))
    return weighted_mean(loss.mean(-1), valid_mask(label).astype(jnp.float32))


def _weight_vector(pos_weight: Sequence[float], num_classes: int) -> jax.Array:
    check_one_per_class("pos_weight", pos_weight, num_classes)
    if not all(0 <= weight < float("inf") for weight in pos_weight):
        raise ArgumentError("pos_weight", tuple(pos_weight), "must be numbers of at least 0")
    return jnp.asarray(pos_weight, jnp.float32)
