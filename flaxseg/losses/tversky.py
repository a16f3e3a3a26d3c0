"""Losses based on the Tversky index, which weights false positives and false negatives differently."""

from collections.abc import Sequence

import jax

from flaxseg.errors import NON_NEGATIVE, POSITIVE
from flaxseg.losses.overlap import class_mean, class_sums, tversky_index
from flaxseg.losses.pixels import safe_power


def tversky(
    logits: jax.Array,
    label: jax.Array,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 0.0,
    class_weights: Sequence[float] | None = None,
    present_only: bool = False,
) -> jax.Array:
    r"""Returns the Tversky loss: 1 minus the Tversky index of each class, averaged over classes.

    .. math:: L_k = 1 - \frac{TP_k + s}{TP_k + \alpha FP_k + \beta FN_k + s}

    where TP, FP and FN are sums of softmax probabilities over all valid pixels of the batch. With alpha and beta both
    1/2 it is `dice`, with both 1 `jaccard`.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.
      alpha: the weight of false positives, at least 0.
      beta: the weight of false negatives, at least 0; larger than alpha favors recall over precision.
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
      >>> float(tversky(logits, jnp.array([0, 1, 0])))  # the mean of 1 - 1 / 1.7 and 1 - 1 / 1.3
      0.3212...

    Salehi et al. 2017, https://arxiv.org/abs/1706.05721
    """
    loss, target = _class_losses(logits, label, alpha, beta, smooth, loss="tversky")
    return class_mean(loss, target, class_weights, present_only)


def focal_tversky(
    logits: jax.Array,
    label: jax.Array,
    *,
    gamma: float = 4 / 3,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 0.0,
    class_weights: Sequence[float] | None = None,
    present_only: bool = False,
) -> jax.Array:
    r"""Returns the focal Tversky loss: the `tversky` loss of each class to the power 1 / gamma, averaged over classes.

    .. math:: L_k = \Big(1 - \frac{TP_k + s}{TP_k + \alpha FP_k + \beta FN_k + s}\Big)^{1 / \gamma}

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.
      gamma: the inverse of the exponent, as in the paper, above 0. Values above 1 increase the gradients of classes
        with a small loss; the paper recommends 4/3. For libraries that take the exponent itself, give its inverse.
      alpha: the weight of false positives, at least 0; the paper calls it beta.
      beta: the weight of false negatives, at least 0; the paper calls it alpha.
      smooth: s, added to numerator and denominator, in pixels; at least 0.
      class_weights: K weights of the mean over classes, each at least 0, not all 0; None for equal weights.
      present_only: exclude classes absent from the labels from the mean, instead of giving them a loss of 0.

    Returns:
      float32 scalar from 0 to 1; 0 if all pixels are ignored. Classes with a loss of 0 have a gradient of 0.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
      >>> float(focal_tversky(logits, jnp.array([0, 1, 0])))  # the mean of (1 - 1/1.7) ** 0.75 and (1 - 1/1.3) ** 0.75
      0.4234...

    Abraham and Khan 2019, https://arxiv.org/abs/1810.07842
    """
    POSITIVE.check("gamma", gamma)
    loss, target = _class_losses(logits, label, alpha, beta, smooth, loss="focal_tversky")
    return class_mean(safe_power(loss, 1 / gamma), target, class_weights, present_only)


def _class_losses(
    logits: jax.Array, label: jax.Array, alpha: float, beta: float, smooth: float, *, loss: str
) -> tuple[jax.Array, jax.Array]:
    """Returns 1 minus the Tversky index of each class, and the number of pixels of each class, both float32[K]."""
    NON_NEGATIVE.check("alpha", alpha)
    NON_NEGATIVE.check("beta", beta)
    sums = class_sums(logits, label, loss=loss)
    return 1 - tversky_index(sums, alpha=alpha, beta=beta, smooth=smooth), sums.target
