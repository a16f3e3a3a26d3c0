"""The center-line Dice loss: whether the skeletons of prediction and label lie within one another."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_above_zero,
    check_at_least,
    check_pictures,
    check_two_classes,
    foreground_weight_vector,
    is_counted,
    one_hot_target,
    probabilities,
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
    r"""Returns one minus the center-line Dice, the weighted mean over classes, for thin connected structures.

    .. math:: L = 1 - \frac{\sum_k w_k \frac{2 T_k S_k}{T_k + S_k}}{\sum_k w_k}, \quad
              T_k = \frac{\sum_i s(p)_{i,k} y_{i,k} + \epsilon}{\sum_i s(p)_{i,k} + \epsilon}, \quad
              S_k = \frac{\sum_i s(y)_{i,k} p_{i,k} + \epsilon}{\sum_i s(y)_{i,k} + \epsilon}

    T and S are the precision and sensitivity of topology, over all pixels of the batch, and s the soft skeleton: what
    a map loses in an opening, gathered while the map is eroded again and again. Ignored pixels are as if they lay
    outside the picture: they neither erode nor hold anything.

    The paper adds it to the Dice loss with a share of 0.5 at most, since skeletons alone say little about widths.

    Args:
      logits: float[..., H, W, K], K of at least 2.
      label: integer[..., H, W]; pixels of IGNORE_LABEL take no part. Any other label that is no class makes the loss
        NaN.
      iterations: erosions, at least 0: as many as the radius in pixels of the widest structure. Each costs time, and
        memory of two values for each pixel and class, beside about twelve in all.
      smooth: epsilon, above 0; it makes a class that neither label nor prediction has right.
      foreground_weights: K weights w, at least 0 and not all 0; None: 0 for class 0, the background, and 1 for others.

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored.

    Raises:
      ConfigError: fewer than 0 iterations, a smoothing that is not above 0, class weights not one for each class,
        negative or all 0, K = 1, or logits that are no pictures.

    Example:
      >>> label = jnp.array([[0, 1, 0]] * 3)
      >>> float(cldice(jnp.zeros((3, 3, 2)), label))  # 0.5 everywhere has no skeleton: T = 1, S = (1.5 + 1) / (3 + 1)
      0.230...

    Shit et al. 2021, https://arxiv.org/abs/2003.07311
    """
    check_two_classes(logits, "cldice")
    check_pictures(logits, "cldice")
    check_at_least("iterations", iterations, 0)
    check_above_zero("smooth", smooth)
    weights = foreground_weight_vector(foreground_weights, logits.shape[-1])
    counted = is_counted(label)
    maps = probabilities(logits, label), one_hot_target(label, logits.shape[-1])
    # Rows of one class lie together in memory, so that pixels beside one another are read fast.
    predicted, true = (jnp.moveaxis(x, -1, 0) for x in maps)
    axes = tuple(range(1, predicted.ndim))
    precision = _share(_soft_skeleton(predicted, counted, iterations), true, smooth, axes)
    sensitivity = _share(_soft_skeleton(true, counted, iterations), predicted, smooth, axes)
    return weighted_mean(1 - 2 * precision * sensitivity / (precision + sensitivity), weights)


def _share(skeleton: jax.Array, inside: jax.Array, smooth: float, axes: tuple[int, ...]) -> jax.Array:
    return ((skeleton * inside).sum(axes) + smooth) / (skeleton.sum(axes) + smooth)


def _soft_skeleton(x: jax.Array, counted: jax.Array, iterations: int) -> jax.Array:
    """Returns the soft skeleton of maps [..., H, W] of values 0 to 1; 0 where a pixel does not count."""

    # The gradient computes an iteration anew, which takes less time than to keep more than its two maps.
    @jax.checkpoint
    def step(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        x, skeleton = carry
        # What does not count is 1 to an erosion and 0 to a dilation, which then take other values.
        eroded = erosion(jnp.where(counted, x, 1.0))
        lost = jax.nn.relu(x - dilation(jnp.where(counted, eroded, 0.0)))
        return (eroded, skeleton + lost * (1 - skeleton)), None

    (_, skeleton), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), length=iterations + 1)
    return jnp.where(counted, skeleton, 0.0)
