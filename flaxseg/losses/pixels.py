"""What the losses have in common: which pixels count, their targets, and the checks of arguments."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.data.batch import IGNORE_LABEL
from flaxseg.errors import ConfigError


def is_counted(label: jax.Array) -> jax.Array:
    """Returns bool[...]: which pixels of label integer[...] are not ignored."""
    return label != IGNORE_LABEL


def target_class(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns int32[...], the class of each pixel of label integer[...]: 0 where ignored, `num_classes` for no class.

    Indexing with the latter gives NaN, so that a label of no class is noticed in the loss.
    """
    target = jnp.where(is_counted(label), label, 0).astype(jnp.int32)
    # Indexing would wrap negative labels around to the last class.
    return jnp.where(target < 0, num_classes, target)


def one_hot_target(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns float32[..., num_classes]: 1 at each pixel's class, all 0 where ignored, all NaN where it is no class."""
    target = target_class(label, num_classes)
    hot = (target[..., None] == jnp.arange(num_classes)) & is_counted(label)[..., None]
    return jnp.where((target < num_classes)[..., None], hot.astype(jnp.float32), jnp.nan)


def at_target(values: jax.Array, label: jax.Array) -> jax.Array:
    """Returns what float[..., K] holds at each pixel's class, [...]; of an ignored pixel it is that of class 0."""
    return jnp.take_along_axis(values, target_class(label, values.shape[-1])[..., None], axis=-1)[..., 0]


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the sum of `values` times `weights` over that of the weights; 0 where these add up to 0.

    Values of weight 0 count as 0, and get no gradient, whatever they are.
    """
    total = weights.sum()
    summed = (jnp.where(weights == 0, 0.0, values) * weights).sum()
    return jnp.where(total == 0, 0.0, summed / jnp.where(total == 0, 1.0, total))


def class_weight_vector(class_weights: Sequence[float] | None, num_classes: int) -> jax.Array:
    """Returns float32[num_classes]; all 1 for None.

    Raises:
      ConfigError: not one weight for each class, a negative one, or all 0.
    """
    if class_weights is None:
        return jnp.ones(num_classes, jnp.float32)
    if len(class_weights) != num_classes:
        raise ConfigError(
            f"class_weights = {tuple(class_weights)}: {len(class_weights)} weights for {num_classes} classes; "
            "give one for each class"
        )
    if not (min(class_weights) >= 0 and 0 < sum(class_weights) < float("inf")):
        raise ConfigError(f"class_weights = {tuple(class_weights)}: must be at least 0 and not all 0")
    return jnp.asarray(class_weights, jnp.float32)


def check_share(name: str, value: float) -> None:
    """Raises ConfigError for a value that is not within 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value}: is a share, 0 to 1")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raises ConfigError for a value that is below the least allowed, or no number."""
    if not least <= value < float("inf"):
        raise ConfigError(f"{name} = {value}: must be at least {least:g}")


def check_two_classes(logits: jax.Array, loss: str) -> None:
    """Raises ConfigError for logits [..., 1], where a softmax is 1 whatever they are."""
    if logits.shape[-1] < 2:
        raise ConfigError(
            f"num_classes = {logits.shape[-1]}: {loss} needs logits of two classes at least; "
            "give the background a class of its own, or use binary_cross_entropy"
        )
