"""Lovasz losses: the Lovasz extension of the Jaccard loss, applied to softmax probabilities or to hinge errors."""

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_arrays,
    check_softmax,
    masked_logits,
    one_hot_target,
    one_vs_rest_target,
    probabilities,
    valid_mask,
    weighted_mean,
)


def lovasz_softmax(
    logits: jax.Array, label: jax.Array, *, present_only: bool = True, per_image: bool = False
) -> jax.Array:
    r"""Returns the Lovasz-Softmax loss, which equals 1 minus the mean IoU if all probabilities are 0 or 1.

    .. math:: L = \frac{1}{|C|} \sum_{c \in C} \sum_i m_{c,\pi(i)}
              \left[J_c(\{\pi(1), \dots, \pi(i)\}) - J_c(\{\pi(1), \dots, \pi(i-1)\})\right],
              \quad m_{c,i} = |[y_i = c] - p_{i,c}|

    where pi sorts the errors m of class c in decreasing order, and J_c(S) is 1 minus the intersection over union of
    class c when exactly the pixels in S are misclassified.

    It sorts all pixels once per class, and temporarily needs memory for about ten 32-bit values per pixel and class.

    Args:
      logits: float[..., K], K of at least 2; float[B, ..., K] with `per_image`.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded. Out-of-range labels yield NaN.
      present_only: C holds only the classes present in the label. False: C holds all classes, and the loss of an absent
        class is its largest error.
      per_image: average the losses of the images that have valid pixels, instead of treating all pixels of the batch
        as one image.

    Returns:
      float32 scalar from 0 to 1; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits, or K = 1.

    Example:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
      >>> float(lovasz_softmax(logits, jnp.array([0, 1])))  # ((0.5 + 0.25) / 2 + 0.5) / 2
      0.4375

    Berman et al. 2018, https://arxiv.org/abs/1705.08790
    """
    check_softmax(logits, label, "lovasz_softmax")
    target = one_hot_target(label, logits.shape[-1])
    losses = _class_losses(jnp.abs(target - probabilities(logits, label)), target, label, per_image)
    class_sizes = target.reshape(losses.shape[0], -1, losses.shape[1]).sum(1)
    # An out-of-range label makes the class sizes NaN, and the sign of NaN is NaN.
    used = jnp.sign(class_sizes) if present_only else jnp.ones_like(losses)
    return _mean_over_images(jax.vmap(weighted_mean)(losses, used), label)


def lovasz_hinge(logits: jax.Array, label: jax.Array, *, per_image: bool = False) -> jax.Array:
    r"""Returns the Lovasz hinge loss: the Lovasz extension of the Jaccard loss, applied to hinge errors.

    The formula is that of `lovasz_softmax` with the errors

    .. math:: m_{c,i} = \max(0, 1 - s_{i,c} \sigma_{i,c}), \quad \sigma_{i,c} = 2 [y_i = c] - 1

    With two classes, the score s is the logit of class 1 minus the logit of class 0, and C is class 1 only. With one
    logit, the score is the logit, for labels 0 and 1. With more classes, the scores are the logits, and C is all
    classes; the loss of a class absent from the label is its largest error. Memory: see `lovasz_softmax`.

    Args:
      logits: float[..., K]; float[B, ..., K] with `per_image`.
      label: integer[...]; pixels labeled IGNORE_LABEL are excluded. Out-of-range labels yield NaN.
      per_image: average the losses of the images that have valid pixels, instead of treating all pixels of the batch
        as one image.

    Returns:
      float32 scalar of at least 0; 0 if all pixels are ignored.

    Raises:
      ArgumentError: the label does not fit the logits.

    Example:
      >>> float(lovasz_hinge(jnp.array([[0.5], [-2.0]]), jnp.array([1, 0])))  # max(0, 1 - 0.5), and no other error
      0.5

    Berman et al. 2018, https://arxiv.org/abs/1705.08790
    """
    check_arrays(logits, label)
    num_classes = logits.shape[-1]
    scores = masked_logits(logits, label)
    if num_classes == 2:
        scores = scores[..., 1:] - scores[..., :1]
    target = one_vs_rest_target(label, scores.shape[-1])
    error = jnp.where(valid_mask(label)[..., None], jax.nn.relu(1 - scores * (2 * target - 1)), 0.0)
    return _mean_over_images(_class_losses(error, target, label, per_image).mean(-1), label)


def _class_losses(error: jax.Array, target: jax.Array, label: jax.Array, per_image: bool) -> jax.Array:
    """Returns the Lovasz extension for each image and class, float32[B, K]; [1, K] without `per_image`.

    Args:
      error: float32[..., K] of at least 0. Pixels with error 0 are sorted last, where they do not affect the others.
      target: float32[..., K].
      label: integer[...].
      per_image: treat the first axis as a batch of images, instead of all pixels as one image.
    """
    num_images, num_classes = label.shape[0] if per_image else 1, error.shape[-1]
    by_class = [x.reshape(num_images, -1, num_classes).swapaxes(1, 2) for x in (error, target == 1)]
    return jax.vmap(jax.vmap(_extension))(*by_class)


def _mean_over_images(values: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the mean of float32[B] over the images that have valid pixels."""
    return weighted_mean(values, valid_mask(label).reshape(values.size, -1).any(1).astype(jnp.float32))


def _extension(error: jax.Array, foreground: jax.Array) -> jax.Array:
    """Returns the Lovasz extension of the Jaccard loss at errors [N] of at least 0, for foreground bool[N]."""
    # The extension is linear for a fixed order of the errors, so that its gradient needs none of the sort.
    return (error * jax.lax.stop_gradient(_jaccard_increments(jax.lax.stop_gradient(error), foreground))).sum()


def _jaccard_increments(error: jax.Array, foreground: jax.Array) -> jax.Array:
    """Returns the increase of the Jaccard loss as pixels become wrong in decreasing order of error, float32[N].

    Each increment is computed from integer numbers of pixels, not as the difference of two nearly equal losses, so that
    it is as exact for 2**30 pixels as for ten.
    """
    index = jnp.arange(error.size, dtype=jnp.int32)
    # The bits of floats of at least 0, read as integers, have the order of the floats. Pairs of integers are what GPUs
    # sort fastest; the second one holds the pixel's index, with inverted bits for background pixels.
    bits = jax.lax.bitcast_convert_type(error, jnp.int32)
    _, order = jax.lax.sort((-bits, jnp.where(foreground, index, ~index)), num_keys=1, is_stable=False)
    is_foreground = order >= 0
    missed = jnp.cumsum(is_foreground, dtype=jnp.int32)
    intersection, union = missed[-1] - missed, missed[-1] + index + 1 - missed
    background_increment = intersection / (union * jnp.maximum(union - 1, 1).astype(jnp.float32))
    # Without any foreground, the first wrong pixel accounts for the whole loss.
    increments = jnp.where(is_foreground, 1 / union, jnp.where(union == 1, 1.0, background_increment))
    return jnp.zeros_like(increments).at[jnp.where(is_foreground, order, ~order)].set(increments, unique_indices=True)
