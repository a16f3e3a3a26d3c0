"""The boundary loss: probabilities weighted by their distance to the label's boundary."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_images,
    check_softmax,
    foreground_weight_vector,
    one_hot_target,
    probabilities,
    valid_mask,
    weighted_mean,
)
from flaxseg.ops import squared_distance


def boundary(logits: jax.Array, label: jax.Array, *, foreground_weights: Sequence[float] | None = None) -> jax.Array:
    r"""Returns the boundary loss: probability times signed distance to the boundary, averaged over valid pixels.

    .. math:: L = \frac{1}{N} \sum_i \sum_k w_k p_{i,k} \frac{\phi_{i,k}}{r_i}

    with softmax probabilities p and class weights w. Outside class k, phi is the distance from pixel i to the nearest
    pixel of class k; inside, it is 1 minus the distance to the nearest pixel of another class, so that it is 0 along
    the boundary and negative further inside. The unit r is the square root of the number of valid pixels in the image,
    which makes the loss almost independent of the resolution.

    Ignored pixels belong to no class and form no boundary: distances are measured across them to the nearest pixel of
    a class. Classes that are absent from an image, or fill it, have no boundary there and contribute 0.

    The loss of an empty prediction is 0, and a correct one is only slightly better, so that the paper adds this loss to
    a region loss such as `dice`, with a weight that grows during training.

    Args:
      logits: float[..., H, W, K], K of at least 2.
      label: integer[..., H, W]; pixels labeled IGNORE_LABEL are excluded. Out-of-range labels yield NaN.
      foreground_weights: w, K weights, each at least 0, not all 0; None, as in the paper, for 0 for class 0, the
        background, and 1 for all other classes.

    Returns:
      float32 scalar, negative for good predictions; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, a weight is negative or all are 0, their number is not K, K = 1,
        or the logits are not images.

    Example:
      >>> label = jnp.array([[0, 0, 1, 1]])
      >>> float(boundary(jnp.zeros((1, 4, 2)), label))  # 0.5 * (2 + 1 + 0 - 1) / sqrt(4) / 4
      0.125

    Kervadec et al. 2019, https://arxiv.org/abs/1812.07032
    """
    check_softmax(logits, label, "boundary")
    check_images(logits, "boundary")
    num_classes = logits.shape[-1]
    weights = foreground_weight_vector(foreground_weights, num_classes)
    distance = jax.lax.stop_gradient(_signed_distance(label, num_classes))
    # 1 at valid pixels, 0 at ignored ones, NaN for out-of-range labels.
    valid = one_hot_target(label, num_classes).sum(-1)
    return weighted_mean((probabilities(logits, label) * weights * distance).sum(-1), valid)


def _signed_distance(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns phi / r of each pixel and class, float32[..., H, W, K]; 0 for classes without a boundary."""
    valid = valid_mask(label)
    classes = jnp.arange(num_classes)[:, None, None]
    inside = label[..., None, :, :] == classes
    to_class = squared_distance(inside)
    # The distance from a pixel to the outside of its own class is the distance to the nearest of the other classes.
    to_other = jnp.where(inside, jnp.inf, to_class).min(-3, keepdims=True)
    distance = jnp.where(inside, 1 - jnp.sqrt(to_other), jnp.sqrt(to_class))
    size = jnp.sqrt(jnp.maximum(valid.sum((-1, -2)), 1))[..., None, None, None]
    return jnp.moveaxis(jnp.where(jnp.isfinite(distance), distance / size, 0.0), -3, -1)
