"""Losses of the Tversky index, in which false positives and false negatives weigh differently."""

from collections.abc import Sequence

import jax

from flaxseg.losses.overlap import class_mean, class_sums, tversky_index
from flaxseg.losses.pixels import check_above_zero, check_at_least, power


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
    r"""Returns 1 minus the Tversky index of each class, averaged over the classes.

    .. math:: L_k = 1 - \frac{TP_k + s}{TP_k + \alpha FP_k + \beta FN_k + s}

    with sums of probabilities as TP, FP and FN. An alpha and beta of 1/2 give `dice`, of 1 `jaccard`.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels of IGNORE_LABEL count in no sum. Any other label that is no class makes the loss NaN.
      alpha: weight of false positives, at least 0.
      beta: weight of false negatives, at least 0; above alpha it favors recall over precision.
      smooth: s, at least 0, in pixels.
      class_weights: K weights, at least 0 and not all 0, of the mean over the classes; 0 leaves one out. None: all 1.
      present_only: False: a class that the labels lack counts as a loss of 0; True: the mean leaves it out.

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored.

    Raises:
      ConfigError: a negative alpha, beta or smooth, class weights not one for each class, negative or all 0, or K = 1.

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
    r"""Returns the loss `tversky` of each class to the power of 1 / gamma, averaged over the classes.

    .. math:: L_k = \Big(1 - \frac{TP_k + s}{TP_k + \alpha FP_k + \beta FN_k + s}\Big)^{1 / \gamma}

    Args:
      logits: as of tversky().
      label: as of tversky().
      gamma: above 0, in the paper 1 to 3 with 4/3 the best. As there, the exponent is its inverse: above 1, classes
        that are nearly right get the larger gradients. Where others take the exponent itself, give 1 over theirs.
      alpha: weight of false positives, at least 0; the paper's beta.
      beta: weight of false negatives, at least 0; the paper's alpha.
      smooth: as of tversky().
      class_weights: as of tversky().
      present_only: as of tversky().

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored. A class of loss 0 has gradient 0.

    Raises:
      ConfigError: a gamma of 0 or less, and as tversky().

    Example:
      >>> logits = jnp.array([[50.0, 0.0], [0.0, 50.0], [0.0, 50.0]])
      >>> float(focal_tversky(logits, jnp.array([0, 1, 0])))  # of (1 - 1 / 1.7) ** 0.75 and (1 - 1 / 1.3) ** 0.75
      0.4234...

    Abraham and Khan 2019, https://arxiv.org/abs/1810.07842
    """
    check_above_zero("gamma", gamma)
    loss, target = _class_losses(logits, label, alpha, beta, smooth, loss="focal_tversky")
    return class_mean(power(loss, 1 / gamma), target, class_weights, present_only)


def _class_losses(
    logits: jax.Array, label: jax.Array, alpha: float, beta: float, smooth: float, *, loss: str
) -> tuple[jax.Array, jax.Array]:
    """Returns 1 minus the Tversky index of each class, and how many pixels are of it, both float32[K]."""
    check_at_least("alpha", alpha, 0)
    check_at_least("beta", beta, 0)
    sums = class_sums(logits, label, loss=loss)
    return 1 - tversky_index(sums, alpha=alpha, beta=beta, smooth=smooth), sums.target
