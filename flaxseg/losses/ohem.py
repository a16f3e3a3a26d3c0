"""Cross-entropy with online hard example mining: averaged over the hardest pixels only."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import FRACTION
from flaxseg.losses.pixels import (
    check_softmax,
    pixel_weights,
    target_log_probability,
    valid_mask,
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
    r"""Returns the cross-entropy averaged over the hard pixels (online hard example mining, OHEM).

    .. math:: L = -\frac{\sum_{i \in H} w_{y_i} \log p_{i,y_i}}{\sum_{i \in H} w_{y_i}}

    A pixel is hard, in H, if the softmax probability p of its class y is below the threshold. If fewer than the
    fraction `min_kept` of the batch's valid pixels are, H consists of that many pixels of the lowest probabilities,
    and of all pixels that tie with the last of them.

    Args:
      logits: float[..., K], K of at least 2.
      label: integer[...]; pixels labeled IGNORE_LABEL are never hard. Out-of-range labels yield NaN.
      threshold: the probability below which a pixel is hard, from 0 to 1; with 0, `min_kept` alone applies.
      min_kept: the smallest fraction of the valid pixels to keep, from 0 to 1, rounded up to a number of pixels.
      class_weights: K weights w, each at least 0, not all 0; None for equal weights. They do not affect which pixels
        are hard.

    Returns:
      float32 scalar of at least 0; 0 if no pixel is hard, or all hard pixels have weight 0. The gradient of all other
      pixels is 0.

    Raises:
      ArgumentError: the label does not fit the logits, an option is out of range, the number of class weights is not K,
        or K = 1.

    Example:
      >>> logits = jnp.array([[0.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
      >>> float(ohem_cross_entropy(logits, jnp.array([0, 0, 255])))  # log(2): the second pixel is not hard
      0.6931...

    Shrivastava et al. 2016, https://arxiv.org/abs/1604.03540
    """
    check_softmax(logits, label, "ohem_cross_entropy")
    FRACTION.check("threshold", threshold)
    FRACTION.check("min_kept", min_kept)
    weights = pixel_weights(label, class_weights, logits.shape[-1])
    log_p, valid = target_log_probability(logits, label), valid_mask(label)
    min_count = jnp.ceil(min_kept * valid.sum().astype(jnp.float32)).astype(jnp.int32)
    # NaN, the result of an out-of-range label, is hard, so that it reaches the loss.
    hard = (jnp.exp(log_p) < threshold) | jnp.isnan(log_p) | _among_largest(-log_p, valid, min_count)
    return weighted_mean(-log_p, jnp.where(valid & hard, weights, 0.0))


def _among_largest(values: jax.Array, valid: jax.Array, count: jax.Array) -> jax.Array:
    """Returns bool[...]: which values are at least the `count`-th largest valid one; all False for a count of 0.

    The bits of float32 values of at least 0, read as integers, have the order of the values. The bits of the threshold
    are determined from the highest to the lowest, each by counting the values above a candidate. Devices that share a
    batch thus exchange 31 counts; a sort would gather all values on each of them.
    """
    # abs clears the sign bit of -0.
    bits = jax.lax.bitcast_convert_type(jnp.abs(values), jnp.int32)
    bits = jnp.where(valid, bits, -1)

    def settle(index: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (jnp.int32(1) << (30 - index))
        return jnp.where((bits >= candidate).sum() >= count, candidate, found)

    return bits >= jax.lax.fori_loop(0, 31, settle, jnp.int32(0))
