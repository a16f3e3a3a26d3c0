"""What the losses have in common: which pixels count, their targets, and the checks of arguments."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ConfigError


def is_counted(label: jax.Array) -> jax.Array:
    """Returns bool[...]: which pixels of label integer[...] are not ignored."""
    return label != IGNORE_LABEL


def counted_logits(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the logits in float32, 0 where label integer[...] is ignored.

    Softmax and its gradient are then finite there, and the gradient exactly 0, whatever the logits are.
    """
    return jnp.where(is_counted(label)[..., None], logits.astype(jnp.float32), 0.0)


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


def one_against_rest_target(label: jax.Array, num_classes: int) -> jax.Array:
    """Returns float32[..., num_classes], what sigmoids aim at: `one_hot_target`; of one class, the labels 0 and 1."""
    if num_classes == 1:
        return one_hot_target(label, 2)[..., 1:]
    return one_hot_target(label, num_classes)


def at_target(values: jax.Array, label: jax.Array) -> jax.Array:
    """Returns what float[..., K] holds at each pixel's class, [...]; of an ignored pixel it is that of class 0."""
    return jnp.take_along_axis(values, target_class(label, values.shape[-1])[..., None], axis=-1)[..., 0]


def probabilities(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the softmax of logits float[..., K], float32[..., K], all 0 where label integer[...] is ignored."""
    return jnp.where(is_counted(label)[..., None], jax.nn.softmax(counted_logits(logits, label)), 0.0)


def target_log_probability(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the logarithm of each pixel's probability of its class, float32[...]; without meaning where ignored."""
    return at_target(jax.nn.log_softmax(counted_logits(logits, label)), label)


def log_sigmoid(x: jax.Array) -> jax.Array:
    """Returns log(1 / (1 + exp(-x))), accurate and with finite gradient for any finite x; faster than jax.nn's."""
    return jnp.minimum(x, 0) - jnp.log1p(jnp.exp(-jnp.abs(x)))


def pixel_weights(label: jax.Array, class_weights: Sequence[float] | None, num_classes: int) -> jax.Array:
    """Returns float32[...]: the weight of each pixel's class, 0 where ignored, NaN where it is no class.

    Raises:
      ConfigError: as class_weight_vector().
    """
    weights = class_weight_vector(class_weights, num_classes)
    if class_weights is None:
        return is_counted(label).astype(jnp.float32)
    of_target = weights.at[target_class(label, num_classes)].get(mode="fill", fill_value=jnp.nan)
    return jnp.where(is_counted(label), of_target, 0.0)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the sum of `values` times `weights` over that of the weights; 0 where these add up to 0.

    Values of weight 0 count as 0, and get no gradient, whatever they are.
    """
    total = weights.sum()
    summed = (jnp.where(weights == 0, 0.0, values) * weights).sum()
    return jnp.where(total == 0, 0.0, summed / jnp.where(total == 0, 1.0, total))


def power(base: jax.Array, exponent: float) -> jax.Array:
    """Returns `base ** exponent` for a base of at least 0 and an exponent of at least 0, with finite gradient.

    At a base of 0 a fraction as exponent has gradient 0 here, where that of exponents below 1 is infinite.
    """
    if float(exponent).is_integer():
        return base ** int(exponent)
    # Rounding can put differences that should be 0 a little below it.
    zero = base < jnp.finfo(jnp.float32).tiny
    return jnp.where(zero, 0.0, jnp.where(zero, 1.0, base) ** exponent)


def class_weight_vector(
    class_weights: Sequence[float] | None, num_classes: int, *, name: str = "class_weights"
) -> jax.Array:
    """Returns float32[num_classes]; all 1 for None. The message calls the argument by its name.

    Raises:
      ConfigError: not one weight for each class, a negative one, or all 0.
    """
    if class_weights is None:
        return jnp.ones(num_classes, jnp.float32)
    if len(class_weights) != num_classes:
        raise ConfigError(
            f"{name} = {tuple(class_weights)}: {len(class_weights)} weights for {num_classes} classes; "
            "give one for each class"
        )
    if not (min(class_weights) >= 0 and 0 < sum(class_weights) < float("inf")):
        raise ConfigError(f"{name} = {tuple(class_weights)}: must be at least 0 and not all 0")
    return jnp.asarray(class_weights, jnp.float32)


def foreground_weight_vector(foreground_weights: Sequence[float] | None, num_classes: int) -> jax.Array:
    """Returns float32[num_classes]; for None 0 for class 0, the background, and 1 for the others.

    Raises:
      ConfigError: as class_weight_vector().
    """
    weights = (0.0,) + (1.0,) * (num_classes - 1) if foreground_weights is None else foreground_weights
    return class_weight_vector(weights, num_classes, name="foreground_weights")


def check_pictures(logits: jax.Array, loss: str) -> None:
    """Raises ConfigError for logits that are not [..., H, W, K]."""
    if logits.ndim < 3:
        raise ConfigError(
            f"logits = {logits.dtype}{list(logits.shape)}: {loss} needs whole pictures, [..., H, W, K]; "
            "reshape flattened ones"
        )


def check_share(name: str, value: float) -> None:
    """Raises ConfigError for a value that is not within 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value}: is a share, 0 to 1")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raises ConfigError for a value that is below the least allowed, or no number."""
    if not least <= value < float("inf"):
        raise ConfigError(f"{name} = {value}: must be at least {least:g}")


def check_above_zero(name: str, value: float) -> None:
    """Raises ConfigError for a value that is 0 or less, or no number."""
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} = {value}: must be above 0")


def check_two_classes(logits: jax.Array, loss: str) -> None:
    """Raises ConfigError for logits [..., 1], where a softmax is 1 whatever they are."""
    if logits.shape[-1] < 2:
        raise ConfigError(
            f"num_classes = {logits.shape[-1]}: {loss} needs logits of two classes at least; "
            "give the background a class of its own, or use binary_cross_entropy"
        )
