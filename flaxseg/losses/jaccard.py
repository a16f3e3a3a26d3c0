"""Losses based on the soft intersection over union (Jaccard index), over the batch or per image."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.overlap import class_mean, class_sums, tversky_index
from flaxseg.losses.pixels import class_weight_vector, weighted_mean


def jaccard(
    logits: jax.Array,
    label: jax.Array,
    *,
    smooth: float = 0.0,
    class_weights: Sequence[float] | None = None,
    present_only: bool = False,
) -> jax.Array:
    r"""Returns the Jaccard loss: 1 minus the soft intersection over union of each class, averaged over classes.

    .. math:: L_k = 1 - \frac{\sum_i p_{i,k} t_{i,k} + s}{\sum_i (p_{i,k} + t_{i,k} - p_{i,k} t_{i,k}) + s}

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
      >>> float(jaccard(logits, jnp.array([0, 1, 0])))  # the mean of 1 - 1/2 and 1 - 1/2
      0.5

    Rahman and Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22
    """
    sums = class_sums(logits, label, loss="jaccard")
    loss = 1 - tversky_index(sums, alpha=1.0, beta=1.0, smooth=smooth)
    return class_mean(loss, sums.target, class_weights, present_only)


def soft_iou(
    logits: jax.Array, label: jax.Array, *, smooth: float = 0.0, class_weights: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns 1 minus the soft intersection over union of each image and class, averaged over these pairs.

    .. math:: L_{b,k} = 1 - \frac{\sum_i p_{b,i,k} t_{b,i,k} + s}
              {\sum_i (p_{b,i,k} + t_{b,i,k} - p_{b,i,k} t_{b,i,k}) + s}

    with softmax probabilities p and one-hot targets t. Classes absent from an image's label are excluded from the
    mean. Unlike in `jaccard`, a class has the same weight in every image that contains it, regardless of its area.

    Args:
      logits: float[B, ..., K], K of at least 2.
      label: integer[B, ...]; pixels labeled IGNORE_LABEL are excluded from all sums. Out-of-range labels yield NaN.
      smooth: s, added to numerator and denominator, in pixels; at least 0.
      class_weights: K weights of the mean over pairs, each at least 0, not all 0; None for equal weights.

    Returns:
      float32 scalar from 0 to 1; 0 if all pixels are ignored or belong to classes of weight 0.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[[50.0, 0.0], [0.0, 50.0]], [[50.0, 0.0], [0.0, 50.0]]])
      >>> float(soft_iou(logits, jnp.array([[0, 1], [1, 1]])))  # the mean of 0 and 0, and of 1 - 1/2 alone
      0.1666...

    Rahman and Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22
    """
    sums = class_sums(logits, label, loss="soft_iou", per_image=True)
    loss = 1 - tversky_index(sums, alpha=1.0, beta=1.0, smooth=smooth)
    weights = class_weight_vector(class_weights, logits.shape[-1])
    return weighted_mean(loss, jnp.where(sums.target == 0, 0.0, weights))
