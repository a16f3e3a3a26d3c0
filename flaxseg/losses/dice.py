"""Losses of the soft Dice score: of each class, of all classes together, and flattened near 0."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.overlap import class_mean, class_sums, ratio, tversky_index
from flaxseg.losses.pixels import check_two_classes, class_weight_vector


def dice(
    logits: jax.Array,
    label: jax.Array,
    *,
    smooth: float = 0.0,
    class_weights: Sequence[float] | None = None,
    present_only: bool = False,
) -> jax.Array:
    r"""Returns 1 minus the soft Dice score of each class, averaged over the classes.

    .. math:: L_k = 1 - \frac{\sum_i p_{i,k} t_{i,k} + s}{\frac{1}{2} \sum_i (p_{i,k} + t_{i,k}) + s}

    Args:
      logits: float[..., K], K of at least 2; p is their softmax.
      label: integer[...]; pixels of IGNORE_LABEL count in no sum. Any other label that is no class makes the loss NaN.
      smooth: s, at least 0, in pixels.
      class_weights: K weights, at least 0 and not all 0, of the mean over the classes; 0 leaves one out. None: all 1.
      present_only: False: a class that the labels lack counts as a loss of 0; True: the mean leaves it out.

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored.

    Raises:
      ConfigError: a negative smooth, class weights not one for each class, negative or all 0, or K = 1.

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
    r"""Returns the logarithm of the hyperbolic cosine of `dice`, which is flat near 0.

    .. math:: L = \log \cosh L_{Dice}

    Args:
      logits: as of dice().
      label: as of dice().
      smooth: as of dice().
      class_weights: as of dice().
      present_only: as of dice().

    Returns:
      float32 scalar, 0 to log cosh 1 = 0.434; 0 when every pixel is ignored.

    Raises:
      ConfigError: as dice().

    Example:
      >>> logits = jnp.array([[0.0, 50.0], [50.0, 0.0]])
      >>> float(log_cosh_dice(logits, jnp.array([0, 1])))  # log(cosh(1))
      0.4337...

    Jadon 2020, https://arxiv.org/abs/2006.14822
    """
    check_two_classes(logits, "log_cosh_dice")
    return jnp.log(jnp.cosh(dice(logits, label, smooth=smooth, class_weights=class_weights, present_only=present_only)))


def generalized_dice(logits: jax.Array, label: jax.Array, *, class_weights: Sequence[float] | None = None) -> jax.Array:
    r"""Returns 1 minus the Dice score of all classes together, in which small classes count as much as large ones.

    .. math:: L = 1 - 2 \frac{\sum_k v_k \sum_i p_{i,k} t_{i,k}}{\sum_k v_k \sum_i (p_{i,k} + t_{i,k})},
              \quad v_k = w_k \Big/ \Big(\sum_i t_{i,k}\Big)^2

    A class that the labels lack, whose v would be infinite, is left out.

    Args:
      logits: float[..., K], K of at least 2; p is their softmax.
      label: integer[...]; pixels of IGNORE_LABEL count in no sum. Any other label that is no class makes the loss NaN.
      class_weights: w, K weights of at least 0, not all 0; 0 leaves a class out. None: all 1.

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored or of a class of weight 0.

    Raises:
      ConfigError: class weights not one for each class, negative or all 0, or K = 1.

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
    # The largest becomes 1, so that the sum below the line is too large for ratio() to change it.
    largest = weights.max()
    weights /= jnp.where(largest == 0, 1.0, largest)
    score = ratio(2 * (weights * sums.intersection).sum(), (weights * (sums.probability + sums.target)).sum())
    return jnp.where(largest == 0, 0.0, 1 - score)
