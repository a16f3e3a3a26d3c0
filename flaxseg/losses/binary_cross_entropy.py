"""Cross-entropy of sigmoids: each class against the rest."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import ConfigError
from flaxseg.losses.pixels import (
    check_share,
    counted_logits,
    is_counted,
    log_sigmoid,
    one_against_rest_target,
    weighted_mean,
)


def binary_cross_entropy(
    logits: jax.Array, label: jax.Array, *, label_smoothing: float = 0.0, pos_weight: Sequence[float] | None = None
) -> jax.Array:
    r"""Returns the mean binary cross-entropy over classes and the pixels that are not ignored.

    .. math:: L = -\frac{1}{N K} \sum_{i,k} v_k t_{i,k} \log \sigma(x_{i,k}) + (1 - t_{i,k}) \log \sigma(-x_{i,k})

    Args:
      logits: float[..., K], x. K = 1 is one class against the background.
      label: integer[...], class indices, for K = 1 0 and 1; pixels of IGNORE_LABEL do not count. Any other label
        that is no class makes the loss NaN.
      label_smoothing: s, 0 to 1: the targets t are 1 - s where the pixel is of the class and s where it is not.
      pos_weight: v, for each class the weight of its pixels, at least 0; None: all 1.

    Returns:
      float32 scalar; 0 when every pixel is ignored.

    Raises:
      ConfigError: a smoothing outside 0..1, or weights that are negative or not one for each class.

    Example:
      >>> float(binary_cross_entropy(jnp.array([[2.0], [5.0]]), jnp.array([1, 255])))  # log(1 + exp(-2))
      0.1269...

    Good 1952, https://doi.org/10.1111/j.2517-6161.1952.tb00104.x
    """
    num_classes = logits.shape[-1]
    check_share("label_smoothing", label_smoothing)
    weights = 1.0 if pos_weight is None else _weight_vector(pos_weight, num_classes)
    target = one_against_rest_target(label, num_classes)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing * (1 - target)
    x = counted_logits(logits, label)
    loss = -(weights * target * log_sigmoid(x) + (1 - target) * log_sigmoid(-x))
    return weighted_mean(loss.mean(-1), is_counted(label).astype(jnp.float32))


def _weight_vector(pos_weight: Sequence[float], num_classes: int) -> jax.Array:
    if len(pos_weight) != num_classes:
        raise ConfigError(
            f"pos_weight = {tuple(pos_weight)}: {len(pos_weight)} weights for {num_classes} classes; "
            "give one for each class"
        )
    if not all(0 <= weight < float("inf") for weight in pos_weight):
        raise ConfigError(f"pos_weight = {tuple(pos_weight)}: must be at least 0")
    return jnp.asarray(pos_weight, jnp.float32)
