"""Building blocks of the overlap losses (Dice, Jaccard, Tversky): sums per class, indices, and means over classes."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxseg.errors import NON_NEGATIVE
from flaxseg.losses.pixels import (
    check_softmax,
    class_weight_vector,
    one_hot_target,
    probabilities,
    weighted_mean,
)

_MIN_DENOMINATOR = 1e-7


class ClassSums(NamedTuple):
    """Sums over valid pixels: float32[K] over the whole batch, or float32[B, K] per image.

    Attributes:
      intersection: the sum of each class's probability over the pixels of that class.
      probability: the sum of each class's probability over all pixels.
      target: the number of pixels of each class; 0 for classes absent from the labels.
    """

    intersection: jax.Array
    probability: jax.Array
    target: jax.Array


def class_sums(logits: jax.Array, label: jax.Array, *, loss: str, per_image: bool = False) -> ClassSums:
    """Returns the sums of softmax probabilities and targets that overlap losses are made of.

    Args:
      logits: float[..., K]; float[B, ..., K] with `per_image`.
      label: integer[...]; an out-of-range label makes all targets NaN.
      loss: the name of the loss, for the error message.
      per_image: sum over each image, instead of over the whole batch.

    Raises:
      ArgumentError: K = 1.
    """
    check_softmax(logits, label, loss)
    p, target = probabilities(logits, label), one_hot_target(label, logits.shape[-1])
    axes = tuple(range(int(per_image), label.ndim))
    return ClassSums((p * target).sum(axes), p.sum(axes), target.sum(axes))


def tversky_index(sums: ClassSums, *, alpha: float, beta: float, smooth: float) -> jax.Array:
    r"""Returns the Tversky index of each class, float32[K] or float32[B, K] like the sums.

    .. math:: \frac{TP + s}{TP + \alpha FP + \beta FN + s}

    Raises:
      ArgumentError: `smooth`, s, is negative.
    """
    NON_NEGATIVE.check("smooth", smooth)
    false_positives = sums.probability - sums.intersection
    false_negatives = sums.target - sums.intersection
    union = sums.intersection + alpha * false_positives + beta * false_negatives
    return safe_ratio(sums.intersection + smooth, union + smooth)


def safe_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Returns the ratio of two arrays [...] of values of at least 0; finite where both are 0."""
    return numerator / jnp.maximum(denominator, _MIN_DENOMINATOR)


def class_mean(
    loss: jax.Array, target: jax.Array, class_weights: Sequence[float] | None, present_only: bool
) -> jax.Array:
    """Returns the weighted mean over classes of a loss per class.

    Args:
      loss: float32[K].
      target: float32[K], the number of pixels of each class.
      class_weights: K weights; None for equal weights.
      present_only: exclude classes absent from the labels from the mean, instead of giving them a loss of 0.

    Raises:
      ArgumentError: see `class_weight_vector`.
    """
    weights = class_weight_vector(class_weights, loss.shape[-1])
    # The comparison is False for NaN, so that the NaN of an out-of-range label is kept.
    absent = target == 0
    if present_only:
        return weighted_mean(loss, jnp.where(absent, 0.0, weights))
    return weighted_mean(jnp.where(absent, 0.0, loss), weights)
