"""Losses based on the soft Dice score: Dice, log-cosh Dice and generalized Dice."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.overlap import class_mean, class_sums, safe_ratio, tversky_index
from flaxseg.losses.pixels import check_softmax, class_weight_vector


def dice(
    logits: jax.Array,
    label: jax.Array,
    *,
    smooth: float = 0.0,
    class_weights: Sequence[float] | None = None,
    present_only: bool = False,
) -> jax.Array:
    r"""Returns the Dice loss: 1 minus the soft Dice score of each class, averaged over classes.

    .. math:: L_k = 1 - \frac{\sum_i p_{i,k} t_{i,k} + s}{\frac{1}{2} \sum_i (p_{i,k} + t_{i,k}) + s}

    with softmax probabilities p and one-hot targets t, summed over all valid pixels of the batch.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.
      smooth: s, added to numerator and denominator, in pixels; at least 0.
      class_weights: K weights of the mean over classes, each at least 0, not all 0; None for equal weights.
      present_only: exclude classes absent from the labels from the mean, instead of giving them a loss of 0.

    Returns:
      float32 scalar from 0 to 1; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
      >>> float(dice(logits, jnp.array([0, 1, 0])))  # the mean of 1 - 2/3 and 1 - 2/3
      0.3333...

    Milletari et al. 2016, https://arxiv.org/abs/1606.04797
    """
    sums = class_sums(logits, label, loss="dice")
    loss = 1 - tversky_index(sums, alpha=0.5, beta=0.5, smooth=smooth)
    return class_mean(loss, sums.target, class_weights, present_only)


def log_cosh_dice(
    logits: jax.Array,
    label: jax.Array,
    *,
    smooth: float = 0.0,
    class_weights: Sequence[float] | None = None,
    present_only: bool = False,
) -> jax.Array:
    r"""Returns the log-cosh Dice loss: the logarithm of the hyperbolic cosine of `dice`, which is flat near 0.

    .. math:: L = \log \cosh L_{Dice}

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.
      smooth: added to numerator and denominator of the Dice score, in pixels; at least 0.
      class_weights: K weights of the mean over classes, each at least 0, not all 0; None for equal weights.
      present_only: exclude classes absent from the labels from the mean, instead of giving them a loss of 0.

    Returns:
      float32 scalar from 0 to log cosh 1 = 0.434; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 50.0], [50.0, 0.0]])
      >>> float(log_cosh_dice(logits, jnp.array([0, 1])))  # log(cosh(1))
      0.4337...

    Jadon 2020, https://arxiv.org/abs/2006.14822
    """
    check_softmax(logits, label, "log_cosh_dice")
    return jnp.log(jnp.cosh(dice(logits, label, smooth=smooth, class_weights=class_weights, present_only=present_only)))


def generalized_dice(logits: jax.Array, label: jax.Array, *, class_weights: Sequence[float] | None = None) -> jax.Array:
    r"""Returns the generalized Dice loss: 1 minus one Dice score over all classes, each weighted by its inverse size.

    .. math:: L = 1 - 2 \frac{\sum_k v_k \sum_i p_{i,k} t_{i,k}}{\sum_k v_k \sum_i (p_{i,k} + t_{i,k})},
              \quad v_k = w_k \Big/ \Big(\sum_i t_{i,k}\Big)^2

    with softmax probabilities p and one-hot targets t. Classes absent from the labels, whose v would be infinite, are
    excluded from both sums (v = 0): the probability predicted for them lowers the score only where the classes that are
    present lack it. Other implementations, such as MONAI's, give them the largest v of the present classes instead, and
    their loss is then higher.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.
      class_weights: w, K weights, each at least 0, not all 0; None for equal weights.

    Returns:
      float32 scalar from 0 to 1; 0 if all pixels are ignored or belong to classes of weight 0.

    Raises:
      ArgumentError: the label does not fit the logits, a class weight is negative or all are 0, their number is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
      >>> float(generalized_dice(logits, jnp.array([0, 1, 0])))  # 1 - 2 * (1/4 + 1) / (3/4 + 3)
      0.3333...

    Sudre et al. 2017, https://arxiv.org/abs/1707.03237
    """
    sums = class_sums(logits, label, loss="generalized_dice")
    absent = sums.target == 0
    weights = class_weight_vector(class_weights, logits.shape[-1])
    weights = jnp.where(absent, 0.0, weights / jnp.where(absent, 1.0, sums.target) ** 2)
    # Normalize the weights so that the lower bound of the denominator in safe_ratio is inactive.
    largest = weights.max()
    weights /= jnp.where(largest == 0, 1.0, largest)
    score = safe_ratio(2 * (weights * sums.intersection).sum(), (weights * (sums.probability + sums.target)).sum())
    return jnp.where(largest == 0, 0.0, 1 - score)
