"""Cross-entropy of softmax probabilities."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.data.batch import IGNORE_LABEL
from flaxseg.errors import ConfigError


def cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    r"""Returns the weighted mean cross-entropy over the pixels that are not ignored.

    .. math:: L = -\frac{\sum_i (1-\epsilon) w_{y_i} \log p_{i,y_i} + \frac{\epsilon}{K} \sum_k w_k \log p_{i,k}}
              {\sum_i w_{y_i}}

    Args:
      logits: float[..., K].
      label: integer[...]; pixels of IGNORE_LABEL count neither above nor below the line. Any other label that is
        no class makes the loss NaN.
      class_weights: K weights of at least 0, not all 0; None: all 1.
      label_smoothing: the share epsilon, 0 to 1, of the target that is spread over all classes.

    Returns:
      float32 scalar; 0 when every pixel is ignored or has weight 0.

    Raises:
      ConfigError: class weights not one for each class, negative or all 0, or a smoothing outside 0..1.

    Example:
      >>> logits = jnp.array([[2.0, 0.0], [0.0, 0.0]])
      >>> float(cross_entropy(logits, jnp.array([0, 255])))  # log(1 + exp(-2))
      0.1269...

    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    num_classes = logits.shape[-1]
    weights = _checked_weights(class_weights, num_classes)
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(f"label_smoothing = {label_smoothing}: is a share, 0 to 1")

    valid = label != IGNORE_LABEL
    target = jnp.where(valid, label, 0).astype(jnp.int32)
    # Indexing would wrap negative labels around to the last class; past the end it gives NaN, which is noticed.
    target = jnp.where(target < 0, num_classes, target)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    pixel_weight = jnp.where(valid, weights[target], 0.0)
    loss = -pixel_weight * jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
    if label_smoothing:
        spread = -jnp.where(valid, (log_p * weights).mean(-1), 0.0)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    total = pixel_weight.sum()
    return jnp.where(total > 0, loss.sum() / jnp.where(total > 0, total, 1.0), 0.0)


def _checked_weights(class_weights: Sequence[float] | None, num_classes: int) -> jax.Array:
    if class_weights is None:
        return jnp.ones(num_classes, jnp.float32)
    if len(class_weights) != num_classes:
        raise ConfigError(
            f"class_weights = {tuple(class_weights)}: {len(class_weights)} weights for {num_classes} classes; "
            "give one for each class"
        )
    if min(class_weights) < 0 or max(class_weights) == 0:
        raise ConfigError(f"class_weights = {tuple(class_weights)}: must be at least 0 and not all 0")
    return jnp.asarray(class_weights, jnp.float32)
