"""The boundary loss: probabilities weighted by their distance from the label's border."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_pictures,
    check_two_classes,
    foreground_weight_vector,
    is_counted,
    one_hot_target,
    probabilities,
    weighted_mean,
)
from flaxseg.ops import squared_distance


def boundary(logits: jax.Array, label: jax.Array, *, foreground_weights: Sequence[float] | None = None) -> jax.Array:
    r"""Returns the mean, over the pixels that are not ignored, of probability times signed distance to the border.

    .. math:: L = \frac{1}{N} \sum_i \sum_k w_k p_{i,k} \frac{\phi_{i,k}}{r_i}

    Here phi is the distance of pixel i to the nearest pixel of class k; of a pixel of class k itself, it is one less
    the distance to the nearest pixel of another class, and so 0 along the border and negative inside. The unit r is
    the root of the number of pixels that count in the picture, so that the loss hardly depends on its resolution.

    Ignored pixels are of no class, hence no border: distances go through them to the nearest pixel of a known class.
    A class that a picture lacks, or that is all of it, has no border there and adds nothing.

    An empty prediction costs nothing, and a right one gains little on it, so that the paper adds this loss to one of
    regions, with a weight that grows during training.

    Args:
      logits: float[..., H, W, K], K of at least 2.
      label: integer[..., H, W]; pixels of IGNORE_LABEL take no part. Any other label that is no class makes the loss
        NaN.
      foreground_weights: K weights w, at least 0 and not all 0; None: 0 for class 0, the background, and 1 for others,
        as in the paper.

    Returns:
      float32 scalar, negative for good predictions; 0 when every pixel is ignored.

    Raises:
      ConfigError: class weights not one for each class, negative or all 0, K = 1, or logits that are no pictures.

    Example:
      >>> label = jnp.array([[0, 0, 1, 1]])
      >>> float(boundary(jnp.zeros((1, 4, 2)), label))  # 0.5 * (2 + 1 + 0 - 1) / sqrt(4) / 4
      0.125

    Kervadec et al. 2019, https://arxiv.org/abs/1812.07032
    """
    check_two_classes(logits, "boundary")
    check_pictures(logits, "boundary")
    num_classes = logits.shape[-1]
    weights = foreground_weight_vector(foreground_weights, num_classes)
    distance = jax.lax.stop_gradient(_signed_distance(label, num_classes))
    # 1 where a pixel counts, NaN where its label is no class.
    counts = one_hot_target(label, num_classes).sum(-1)
    return weighted_mean((probabilities(logits, label) * weights * distance).sum(-1), counts)


def _signed_distance(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns phi / r of each pixel and class, float32[..., H, W, K]; 0 for a class without a border."""
    counted = is_counted(label)
    classes = jnp.arange(num_classes)[:, None, None]
    inside = label[..., None, :, :] == classes
    to_class = squared_distance(inside)
    # The distance out of a pixel's own class is that to the nearest of the others, which is known already.
    to_other = jnp.where(inside, jnp.inf, to_class).min(-3, keepdims=True)
    distance = jnp.where(inside, 1 - jnp.sqrt(to_other), jnp.sqrt(to_class))
    size = jnp.sqrt(jnp.maximum(counted.sum((-1, -2)), 1))[..., None, None, None]
    return jnp.moveaxis(jnp.where(jnp.isfinite(distance), distance / size, 0.0), -3, -1)
