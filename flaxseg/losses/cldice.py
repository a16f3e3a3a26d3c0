"""The center-line Dice loss: whether the skeletons of prediction and label lie within each other's masks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import POSITIVE, check_integer
from flaxseg.losses.pixels import (
    check_images,
    check_softmax,
    foreground_weight_vector,
    one_hot_target,
    probabilities,
    valid_mask,
    weighted_mean,
)
from flaxseg.ops import dilation, erosion


def cldice(
    logits: jax.Array,
    label: jax.Array,
    *,
    iterations: int = 3,
    smooth: float = 1.0,
    foreground_weights: Sequence[float] | None = None,
) -> jax.Array:
    r"""Returns the center-line Dice (clDice) loss, a weighted mean over classes, for thin connected structures.

    .. math:: L = 1 - \frac{\sum_k w_k \frac{2 T_k S_k}{T_k + S_k}}{\sum_k w_k}, \quad
              T_k = \frac{\sum_i s(p)_{i,k} y_{i,k} + \epsilon}{\sum_i s(p)_{i,k} + \epsilon}, \quad
              S_k = \frac{\sum_i s(y)_{i,k} p_{i,k} + \epsilon}{\sum_i s(y)_{i,k} + \epsilon}

    T and S are the topology precision and sensitivity over all valid pixels of the batch, with softmax probabilities p
    and one-hot labels y. The soft skeleton s is the union of what an opening removes from the map after each of several
    erosions. Ignored pixels are treated as if they were outside the image: they neither erode nor dilate their
    neighbors.

    Skeletons carry little information about widths: the paper combines this loss, with a weight of at most 0.5, with
    the Dice loss.

    Args:
      logits: float[..., H, W, K], K of at least 2.
      label: integer[..., H, W]; pixels labeled IGNORE_LABEL are excluded. Out-of-range labels yield NaN.
      iterations: the number of erosions, at least 0: at least the radius, in pixels, of the widest structure. Each
        takes time, and memory for two values per pixel and class, in addition to about twelve in total.
      smooth: epsilon, above 0; because of it, a class absent from both label and prediction has a loss of 0.
      foreground_weights: w, K weights, each at least 0, not all 0; None for 0 for class 0, the background, and 1 for
        all other classes.

    Returns:
      float32 scalar from 0 to 1; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of weights is not K,
        K = 1, or the logits are not images.

    Example:
      >>> label = jnp.array([[0, 1, 0]] * 3)
      >>> float(cldice(jnp.zeros((3, 3, 2)), label))  # 0.5 everywhere has no skeleton: T = 1, S = (1.5 + 1) / (3 + 1)
      0.230...

    Shit et al. 2021, https://arxiv.org/abs/2003.07311
    """
    check_softmax(logits, label, "cldice")
    check_images(logits, "cldice")
    check_integer("iterations", iterations, 0)
    POSITIVE.check("smooth", smooth)
    weights = foreground_weight_vector(foreground_weights, logits.shape[-1])
    valid = valid_mask(label)
    maps = probabilities(logits, label), one_hot_target(label, logits.shape[-1])
    # With the class axis first, neighboring pixels of a class are contiguous in memory and fast to read.
    predicted, true = (jnp.moveaxis(x, -1, 0) for x in maps)
    axes = tuple(range(1, predicted.ndim))
    precision = _fraction_inside(_soft_skeleton(predicted, valid, iterations), true, smooth, axes)
    sensitivity = _fraction_inside(_soft_skeleton(true, valid, iterations), predicted, smooth, axes)
    return weighted_mean(1 - 2 * precision * sensitivity / (precision + sensitivity), weights)


def _fraction_inside(skeleton: jax.Array, mask: jax.Array, smooth: float, axes: tuple[int, ...]) -> jax.Array:
    return ((skeleton * mask).sum(axes) + smooth) / (skeleton.sum(axes) + smooth)


def _soft_skeleton(x: jax.Array, valid: jax.Array, iterations: int) -> jax.Array:
    """Returns the soft skeleton of maps [..., H, W] of values 0 to 1; 0 at ignored pixels."""

    # The backward pass recomputes each iteration, which is faster than storing more than its two maps.
    @jax.checkpoint
    def step(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        x, skeleton = carry
        # Ignored pixels are 1 for erosions and 0 for dilations, so that they never are the minimum or maximum.
        eroded = erosion(jnp.where(valid, x, 1.0))
        removed = jax.nn.relu(x - dilation(jnp.where(valid, eroded, 0.0)))
        return (eroded, skeleton + removed * (1 - skeleton)), None

    (_, skeleton), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), length=iterations + 1)
    return jnp.where(valid, skeleton, 0.0)
