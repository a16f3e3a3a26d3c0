"""What the losses of overlapping regions (Dice, Jaccard, Tversky) share: sums over each class, scores, their mean."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_at_least,
    check_two_classes,
    class_weight_vector,
    one_hot_target,
    probabilities,
    weighted_mean,
)

_LEAST_DENOMINATOR = 1e-7


class ClassSums(NamedTuple):
    """Sums over the counted pixels, float32[K] of the whole batch or float32[B, K] of each picture.

    Attributes:
      intersection: of the probabilities of a class over its own pixels.
      probability: of its probabilities over all pixels.
      target: how many pixels are of the class; 0 for one that the labels lack.
    """

    intersection: jax.Array
    probability: jax.Array
    target: jax.Array


def class_sums(logits: jax.Array, label: jax.Array, *, loss: str, of_each_picture: bool = False) -> ClassSums:
    """Returns the sums of softmax probabilities that overlap is measured with.

    Args:
      logits: float[..., K]; float[B, ..., K] for `of_each_picture`.
      label: integer[...]; a label that is no class makes all sums of targets NaN.
      loss: the name of the loss, for the message.
      of_each_picture: whether the first axis is kept.

    Raises:
      ConfigError: K = 1.
    """
    check_two_classes(logits, loss)
    p, target = probabilities(logits, label), one_hot_target(label, logits.shape[-1])
    axes = tuple(range(int(of_each_picture), label.ndim))
    return ClassSums((p * target).sum(axes), p.sum(axes), target.sum(axes))


def tversky_index(sums: ClassSums, *, alpha: float, beta: float, smooth: float) -> jax.Array:
    r"""Returns the Tversky index of each class, of the shape of the sums.

    .. math:: \frac{TP + s}{TP + \alpha FP + \beta FN + s}

    Raises:
      ConfigError: a negative smooth, s.
    """
    check_at_least("smooth", smooth, 0)
    false_positives = sums.probability - sums.intersection
    false_negatives = sums.target - sums.intersection
    union = sums.intersection + alpha * false_positives + beta * false_negatives
    return ratio(sums.intersection + smooth, union + smooth)


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Returns the quotient of values of at least 0, finite where both are 0."""
    return numerator / jnp.maximum(denominator, _LEAST_DENOMINATOR)


def class_mean(
    loss: jax.Array, target: jax.Array, class_weights: Sequence[float] | None, present_only: bool
) -> jax.Array:
    """Returns the weighted mean of a loss, float32[K], over the classes.

    Args:
      loss: the loss of each class.
      target: how many pixels are of each class.
      class_weights: K weights; None: all 1.
      present_only: False: a class without pixels counts as a loss of 0; True: the mean leaves it out.

    Raises:
      ConfigError: class weights not one for each class, negative or all 0.
    """
    weights = class_weight_vector(class_weights, loss.shape[-1])
    # Compared so that NaN, of a label that is no class, stays.
    absent = target == 0
    if present_only:
        return weighted_mean(loss, jnp.where(absent, 0.0, weights))
    return weighted_mean(jnp.where(absent, 0.0, loss), weights)
