"""Cross-entropy of the hardest pixels only."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.losses.pixels import (
    check_share,
    check_two_classes,
    is_counted,
    pixel_weights,
    target_log_probability,
    weighted_mean,
)


def ohem_cross_entropy(
    logits: jax.Array,
    label: jax.Array,
    *,
    threshold: float = 0.7,
    min_kept: float = 1 / 16,
    class_weights: Sequence[float] | None = None,
) -> jax.Array:
    r"""Returns the weighted mean cross-entropy over the hard pixels (online hard example mining).

    .. math:: L = -\frac{\sum_{i \in H} w_{y_i} \log p_{i,y_i}}{\sum_{i \in H} w_{y_i}}

    Hard are the pixels whose probability of the right class is below the threshold. When these are fewer than
    `min_kept` of the batch's counted pixels, so many of the least probable are, and all that equal the last of them.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels of IGNORE_LABEL are never hard. Any other label that is no class makes the loss NaN.
      threshold: a probability, 0 to 1; at 0 only `min_kept` decides.
      min_kept: 0 to 1, the share of the counted pixels that is kept at least, rounded up to whole pixels.
      class_weights: K weights of at least 0, not all 0; None: all 1. They do not change which pixels are hard.

    Returns:
      float32 scalar; 0 when no pixel is hard, or all that are have weight 0. Other pixels get no gradient.

    Raises:
      ConfigError: a threshold or share outside 0..1, class weights not one for each class, negative or all 0, or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
      >>> float(ohem_cross_entropy(logits, jnp.array([0, 0, 255])))  # log(2): the second pixel is not hard
      0.6931...

    Shrivastava et al. 2016, https://arxiv.org/abs/1604.03540
    """
    check_two_classes(logits, "ohem_cross_entropy")
    check_share("threshold", threshold)
    check_share("min_kept", min_kept)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p, counted = target_log_probability(logits, label), is_counted(label)
    least = jnp.ceil(min_kept * counted.sum().astype(jnp.float32)).astype(jnp.int32)
    # Written so that NaN, of a label that is no class, is kept.
    hard = ~(jnp.exp(log_p) >= threshold) | _among_largest(-log_p, counted, least)
    return weighted_mean(-log_p, jnp.where(counted & hard, weights, 0.0))


def _among_largest(values: jax.Array, counted: jax.Array, number: jax.Array) -> jax.Array:
    """Returns bool[...]: which values are at least the `number`-th largest of those counted; none for `number` 0.

    Values are float32 of at least 0, whose bits as whole numbers are in the same order: the bits of the one looked
    for are found from the highest to the lowest, each by counting. Devices that share a batch exchange 31 counts for
    this, where a sort would gather all values on each of them.
    """
    # The highest bit of -0 is set.
    bits = jax.lax.bitcast_convert_type(jnp.abs(values), jnp.int32)
    bits = jnp.where(counted, bits, -1)

    def settle(index: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (jnp.int32(1) << (30 - index))
        return jnp.where((bits >= candidate).sum() >= number, candidate, found)

    return bits >= jax.lax.fori_loop(0, 31, settle, jnp.int32(0))
