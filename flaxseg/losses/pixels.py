"""Building blocks of the losses: masks of valid pixels, targets, pixel and class weights, and argument checks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError
from flaxseg.shapes import check_label


def valid_mask(label: jax.Array) -> jax.Array:
    """Returns bool[...]: True where label integer[...] is not IGNORE_LABEL."""
    return label != IGNORE_LABEL


def masked_logits(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the logits in at least float32, [..., K], with 0 at ignored pixels of label integer[...].

    At ignored pixels the softmax is then finite and its gradient exactly 0, for any logits.
    """
    return jnp.where(valid_mask(label)[..., None], logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), 0.0)


def target_class(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns int32[...]: the class of each pixel of label integer[...].

    Ignored pixels have class 0. Out-of-range labels become `num_classes` or more: indexing with those yields NaN, so
    that the loss reveals them.
    """
    target = jnp.where(valid_mask(label), label, 0).astype(jnp.int32)
    # Negative indices would wrap around to the last classes.
    return jnp.where(target < 0, num_classes, target)


def one_hot_target(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns the one-hot labels, float32[..., num_classes]: all 0 if ignored, all NaN for out-of-range labels."""
    target = target_class(label, num_classes)
    hot = (target[..., None] == jnp.arange(num_classes)) & valid_mask(label)[..., None]
    return jnp.where((target < num_classes)[..., None], hot.astype(jnp.float32), jnp.nan)


def one_vs_rest_target(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns float32[..., num_classes]: targets of sigmoids, which are one-hot labels.

    With a single class, its targets are the labels 0 and 1 themselves.
    """
    if num_classes == 1:
        return one_hot_target(label, 2)[..., 1:]
    return one_hot_target(label, num_classes)


def values_at_target(values: jax.Array, label: jax.Array) -> jax.Array:
    """Returns [...]: the entry of float[..., K] at each pixel's class; at ignored pixels the entry of class 0."""
    return jnp.take_along_axis(values, target_class(label, values.shape[-1])[..., None], axis=-1)[..., 0]


def probabilities(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns float32[..., K]: the softmax of logits float[..., K], all 0 at ignored pixels of label integer[...]."""
    return jnp.where(valid_mask(label)[..., None], jax.nn.softmax(masked_logits(logits, label)), 0.0)


def target_log_probability(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns float32[...]: the log-probability of each pixel's class; meaningless, but finite, at ignored pixels."""
    return values_at_target(jax.nn.log_softmax(masked_logits(logits, label)), label)


def log_sigmoid(x: jax.Array) -> jax.Array:
    """Returns [...]: log(1 / (1 + exp(-x))), accurate and with a finite gradient for finite x; faster than jax.nn's."""
    # min(x, -x) instead of -abs(x): JAX's derivative of abs at 0 is 1, which would double the gradient there.
    return jnp.minimum(x, 0) - jnp.log1p(jnp.exp(jnp.minimum(x, -x)))


def pixel_weights(label: jax.Array, class_weights: Sequence[float] | None, num_classes: int) -> jax.Array:
    """Returns float32[...]: the weight of each pixel's class; 0 at ignored pixels, NaN for out-of-range labels.

    Raises:
      ArgumentError: see `class_weight_vector`.
    """
    weights = class_weight_vector(class_weights, num_classes)
    if class_weights is None:
        return valid_mask(label).astype(jnp.float32)
    target_weights = weights.at[target_class(label, num_classes)].get(mode="fill", fill_value=jnp.nan)
    return jnp.where(valid_mask(label), target_weights, 0.0)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns a scalar: the sum of `values * weights`, [...] each, divided by that of the weights; 0 if that is 0.

    Values of weight 0 have no effect and a gradient of 0, even if they are infinite or NaN.
    """
    total = weights.sum()
    weighted = (jnp.where(weights == 0, 0.0, values) * weights).sum()
    return jnp.where(total == 0, 0.0, weighted / jnp.where(total == 0, 1.0, total))


def safe_power(base: jax.Array, exponent: float) -> jax.Array:
    """Returns [...]: `base ** exponent` of base [...], both at least 0, with a finite gradient.

    For a fractional exponent the gradient at a base of 0 is 0; for exponents below 1 it would otherwise be infinite.
    """
    if float(exponent).is_integer():
        return base ** int(exponent)
    # Because of rounding, differences that should be 0 can be slightly negative.
    zero = base < jnp.finfo(jnp.float32).tiny
    return jnp.where(zero, 0.0, jnp.where(zero, 1.0, base) ** exponent)


def class_weight_vector(
    class_weights: Sequence[float] | None, num_classes: int, *, argument: str = "class_weights"
) -> jax.Array:
    """Returns class weights as float32[num_classes]; all 1 for None.

    Args:
      class_weights: one weight per class, each at least 0, not all 0; None for equal weights.
      num_classes: the number of classes.
      argument: the name that the error gives to the weights.

    Raises:
      ArgumentError: the number of weights is not `num_classes`, or a weight is negative, or all are 0.
    """
    if class_weights is None:
        return jnp.ones(num_classes, jnp.float32)
    check_one_per_class(argument, class_weights, num_classes)
    if not (min(class_weights) >= 0 and 0 < sum(class_weights) < float("inf")):
        raise ArgumentError(argument, tuple(class_weights), "must be numbers of at least 0, not all 0")
    return jnp.asarray(class_weights, jnp.float32)


def foreground_weight_vector(foreground_weights: Sequence[float] | None, num_classes: int) -> jax.Array:
    """Returns float32[num_classes]; for None, 0 for class 0, the background, and 1 for all others.

    Raises:
      ArgumentError: see `class_weight_vector`.
    """
    weights = (0.0,) + (1.0,) * (num_classes - 1) if foreground_weights is None else foreground_weights
    return class_weight_vector(weights, num_classes, argument="foreground_weights")


def check_one_per_class(argument: str, weights: Sequence[float], num_classes: int) -> None:
    """Raises ArgumentError unless there is one weight per class."""
    if len(weights) != num_classes:
        raise ArgumentError(
            argument, tuple(weights), f"{len(weights)} weights for {num_classes} classes; give one per class"
        )


def check_images(logits: jax.Array, loss: str) -> None:
    """Raises ArgumentError for logits that are not [..., H, W, K]."""
    if logits.ndim < 3:
        raise ArgumentError(
            "logits.shape",
            tuple(logits.shape),
            f"{loss} needs whole images, [..., H, W, K]; reshape flattened logits",
        )


def check_arrays(logits: jax.Array, label: jax.Array) -> None:
    """Raises ArrayError unless label is integer[...] for logits [..., K]; every loss begins with it.

    Without it, labels [B, H, W, 1] would be broadcast against all pixels of the batch.
    """
    check_label(label, tuple(logits.shape[:-1]), logits=logits)


def check_softmax(logits: jax.Array, label: jax.Array, loss: str) -> None:
    """Raises ArrayError for labels that do not fit, ArgumentError for logits [..., 1], whose softmax is always 1."""
    check_arrays(logits, label)
    if logits.shape[-1] < 2:
        raise ArgumentError(
            "num_classes",
            logits.shape[-1],
            f"{loss} needs logits of at least two classes; make the background a class, or use binary_cross_entropy",
        )
