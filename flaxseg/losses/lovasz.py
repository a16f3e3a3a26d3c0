"""The Lovasz extension of the Jaccard loss: of softmax probabilities, and of the hinge of scores."""

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_two_classes,
    counted_logits,
    is_counted,
    one_against_rest_target,
    one_hot_target,
    probabilities,
    weighted_mean,
)


def lovasz_softmax(
    logits: jax.Array, label: jax.Array, *, present_only: bool = True, per_image: bool = False
) -> jax.Array:
    r"""Returns the Lovasz-Softmax loss, which is one minus the mean intersection over union at hard probabilities.

    .. math:: L = \frac{1}{|C|} \sum_{c \in C} \sum_i m_{c,\pi(i)}
              \left[J_c(\{\pi(1), \dots, \pi(i)\}) - J_c(\{\pi(1), \dots, \pi(i-1)\})\right],
              \quad m_{c,i} = |[y_i = c] - p_{i,c}|

    where pi sorts the errors m of class c from large to small, and J_c(S) is one minus the intersection over union
    of that class when just the pixels of S are wrong.

    Sorts all pixels once for each class, and holds about ten values of 32 bits for each pixel and class meanwhile.

    Args:
      logits: float[..., K], K of at least 2; float[B, ..., K] with `per_image`.
      label: integer[...]; pixels of IGNORE_LABEL take no part. Any other label that is no class makes the loss NaN.
      present_only: C is the classes that the label has; False: all, where an absent one has its largest error.
      per_image: the mean of the loss over the pictures that have a pixel to count, instead of that of all pixels
        together.

    Returns:
      float32 scalar, 0 to 1; 0 when every pixel is ignored.

    Raises:
      ConfigError: K = 1.

    Example:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
      >>> float(lovasz_softmax(logits, jnp.array([0, 1])))  # ((0.5 + 0.25) / 2 + 0.5) / 2
      0.4375

    Berman et al. 2018, https://arxiv.org/abs/1705.08790
    """
    check_two_classes(logits, "lovasz_softmax")
    target = one_hot_target(label, logits.shape[-1])
    by_class = _by_class(jnp.abs(target - probabilities(logits, label)), target, label, per_image)
    pixels_of_class = target.reshape(by_class.shape[0], -1, by_class.shape[1]).sum(1)
    # The sign of NaN, which is what a label of no class adds up to, is NaN.
    used = jnp.sign(pixels_of_class) if present_only else jnp.ones_like(by_class)
    return _over_pictures(jax.vmap(weighted_mean)(by_class, used), label)


def lovasz_hinge(logits: jax.Array, label: jax.Array, *, per_image: bool = False) -> jax.Array:
    r"""Returns the Lovasz hinge: the Lovasz extension of the Jaccard loss over hinge errors of scores.

    As `lovasz_softmax` with the errors

    .. math:: m_{c,i} = \max(0, 1 - s_{i,c} \sigma_{i,c}), \quad \sigma_{i,c} = 2 [y_i = c] - 1

    Two classes are one problem: the score s is the logit of class 1 less that of class 0, and C is class 1 alone. One
    logit is that score itself, for labels 0 and 1. With more classes each is told from the rest by its own logit, and
    C is all of them; one that the label lacks has its largest error. Memory is that of `lovasz_softmax`.

    Args:
      logits: float[..., K]; float[B, ..., K] with `per_image`.
      label: integer[...]; pixels of IGNORE_LABEL take no part. Any other label that is no class makes the loss NaN.
      per_image: the mean of the loss over the pictures that have a pixel to count, instead of that of all pixels
        together.

    Returns:
      float32 scalar of at least 0; 0 when every pixel is ignored.

    Example:
      >>> float(lovasz_hinge(jnp.array([[0.5], [-2.0]]), jnp.array([1, 0])))  # max(0, 1 - 0.5), and no other error
      0.5

    Berman et al. 2018, https://arxiv.org/abs/1705.08790
    """
    num_classes = logits.shape[-1]
    scores = counted_logits(logits, label)
    if num_classes == 2:
        scores = scores[..., 1:] - scores[..., :1]
    target = one_against_rest_target(label, scores.shape[-1])
    error = jnp.where(is_counted(label)[..., None], jax.nn.relu(1 - scores * (2 * target - 1)), 0.0)
    return _over_pictures(_by_class(error, target, label, per_image).mean(-1), label)


def _by_class(error: jax.Array, target: jax.Array, label: jax.Array, per_image: bool) -> jax.Array:
    """Returns the extension for each class, float32[B, K] or [1, K].

    Args:
      error: float32[..., K] of at least 0. Pixels of error 0 come last, where they change nothing of the others.
      target: float32[..., K].
      label: integer[...].
      per_image: whether to return a row for each picture, or one of all.
    """
    pictures, num_classes = label.shape[0] if per_image else 1, error.shape[-1]
    by_class = [x.reshape(pictures, -1, num_classes).swapaxes(1, 2) for x in (error, target == 1)]
    return jax.vmap(jax.vmap(_extension))(*by_class)


def _over_pictures(values: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the mean of float32[B] over the pictures that have a pixel to count."""
    return weighted_mean(values, is_counted(label).reshape(values.size, -1).any(1).astype(jnp.float32))


def _extension(error: jax.Array, foreground: jax.Array) -> jax.Array:
    """Returns the Lovasz extension of the Jaccard loss at errors [N] of at least 0, for foreground bool[N]."""
    # It is linear where the order does not change, so that its gradient needs none of the sort.
    return (error * jax.lax.stop_gradient(_jaccard_steps(jax.lax.stop_gradient(error), foreground))).sum()


def _jaccard_steps(error: jax.Array, foreground: jax.Array) -> jax.Array:
    """Returns how much the Jaccard loss grows as each pixel turns wrong after those of larger errors, float32[N].

    Each step comes from whole numbers of pixels, not as the difference of two losses near one another, so that it is
    as exact for 2**30 pixels as for ten.
    """
    index = jnp.arange(error.size, dtype=jnp.int32)
    # Floats of at least 0 lie in the order of their bits. Two whole numbers are what GPUs sort fastest; the second
    # holds the pixel's index, its bits inverted where the pixel is background.
    bits = jax.lax.bitcast_convert_type(error, jnp.int32)
    _, order = jax.lax.sort((-bits, jnp.where(foreground, index, ~index)), num_keys=1, is_stable=False)
    found = order >= 0
    missed = jnp.cumsum(found, dtype=jnp.int32)
    intersection, union = missed[-1] - missed, missed[-1] + index + 1 - missed
    shrunk = intersection / (union * jnp.maximum(union - 1, 1).astype(jnp.float32))
    # Where there is no foreground, the first pixel that is wrong is the whole loss.
    steps = jnp.where(found, 1 / union, jnp.where(union == 1, 1.0, shrunk))
    return jnp.zeros_like(steps).at[jnp.where(found, order, ~order)].set(steps, unique_indices=True)
