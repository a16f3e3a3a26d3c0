"""Losses of the soft intersection over union (Jaccard index)."""

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
    r"""Returns 1 minus the soft intersection over union of each class, averaged over the classes.

    .. math:: L_k = 1 - \frac{\sum_i p_{i,k} t_{i,k} + s}{\sum_i (p_{i,k} + t_{i,k} - p_{i,k} t_{i,k}) + s}

    Args:
      logits: as of dice().
      label: as of dice().
      smooth: as of dice().
      class_weights: as of dice().
      present_only: as of dice().

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored.

    Raises:
      ConfigError: as dice().

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
    r"""Returns 1 minus the soft intersection over union of each picture and class, averaged over these pairs.

    .. math:: L_{b,k} = 1 - \frac{\sum_i p_{b,i,k} t_{b,i,k} + s}
              {\sum_i (p_{b,i,k} + t_{b,i,k} - p_{b,i,k} t_{b,i,k}) + s}

    The mean leaves out classes that a picture's label lacks. Unlike in `jaccard`, small pictures of a class count as
    much as large ones, and a batch of one picture twice gives what the picture does.

    Args:
      logits: float[B, ..., K], K of at least 2; p is their softmax.
      label: integer[B, ...]; pixels of IGNORE_LABEL count in no sum. Any other label that is no class makes the loss
        NaN.
      smooth: s, at least 0, in pixels.
      class_weights: K weights, at least 0 and not all 0, of the mean over the pairs; 0 leaves one out. None: all 1.

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored or of a class of weight 0.

    Raises:
      ConfigError: as dice().

    Example:
      >>> logits = jnp.array([[[50.0, 0.0], [0.0, 50.0]], [[50.0, 0.0], [0.0, 50.0]]])
      >>> float(soft_iou(logits, jnp.array([[0, 1], [1, 1]])))  # the mean of 0 and 0, and of 1 - 1/2 alone
      0.1666...

    Rahman and Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22
    """
    sums = class_sums(logits, label, loss="soft_iou", of_each_picture=True)
    loss = 1 - tversky_index(sums, alpha=1.0, beta=1.0, smooth=smooth)
    weights = class_weight_vector(class_weights, logits.shape[-1])
    return weighted_mean(loss, jnp.where(sums.target == 0, 0.0, weights))
