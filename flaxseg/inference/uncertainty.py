"""Uncertainty of predictions per pixel, and the calibration of probabilities by a temperature."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy

from flaxseg.data.types import IGNORE_LABEL

MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0
"""The limits of `fit_temperature`."""


def entropy(probabilities: jax.Array) -> jax.Array:
    """Returns the entropy of each distribution, 0 where it is certain and log(K) where it is uniform.

    Args:
      probabilities: float[..., K], of sum 1 over classes.

    Returns:
      float[...], in nats.
    """
    return -xlogy(probabilities, probabilities).sum(-1)


def margin(probabilities: jax.Array) -> jax.Array:
    """Returns the difference between the largest and the second largest probability, small where it is uncertain.

    Args:
      probabilities: float[..., K] with K of at least 2, of sum 1 over classes.

    Returns:
      float[...] from 0 to 1.
    """
    (best, second) = jnp.moveaxis(jax.lax.top_k(probabilities, 2)[0], -1, 0)
    return best - second


def disagreement(probabilities: jax.Array) -> jax.Array:
    """Returns how much the members of an ensemble disagree: the mutual information of prediction and member.

    It is the entropy of the mean minus the mean of the entropies, 0 where all members agree and at most log(M) and
    log(K) (Houlsby et al. 2011, https://arxiv.org/abs/1112.5745). The mean of the members is their joint prediction;
    its `entropy` is the total uncertainty.

    Args:
      probabilities: float[M, ..., K], of M members, of sum 1 over classes.

    Returns:
      float[...], in nats.
    """
    # Rounding could make it slightly negative where all members agree.
    return jnp.maximum(entropy(probabilities.mean(0)) - entropy(probabilities).mean(0), 0)


def relative_uncertainty(kind: str, values: np.ndarray, *, num_classes: int, members: int = 1) -> np.ndarray:
    """Returns a measure of uncertainty as a number from 0, certain, to 1, as uncertain as it can be.

    Args:
      kind: "entropy", "margin" or "disagreement".
      values: float[...], what the function of this name returned.
      num_classes: the number of classes.
      members: the number of members of the ensemble, for "disagreement".

    Returns:
      float[...]: the entropy relative to its maximum, log(num_classes); 1 - margin; or the disagreement relative to its
      maximum, the logarithm of the smaller of `num_classes` and `members`.
    """
    if kind == "margin":
        return 1 - values
    most = num_classes if kind == "entropy" else min(num_classes, members)
    return np.clip(values / max(np.log(most), np.finfo(np.float32).tiny), 0, 1)


def apply_temperature(logits: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Returns the probabilities float32[..., K] of logits divided by a temperature; the best class stays the same."""
    return jax.nn.softmax(logits.astype(jnp.float32) / temperature)


def fit_temperature(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the temperature that makes the probabilities of held-out logits most likely.

    It minimizes the mean negative log-likelihood of the labels, as `apply_temperature` then reaches it (Guo et al.
    2017, https://arxiv.org/abs/1706.04599). That is convex in 1 / temperature, so that the zero of its derivative is
    found by bisection, to the precision of float32. The function is pure and can be jitted.

    Args:
      logits: float[..., K], of a sample of pixels or of whole images.
      labels: int[...], class indices or IGNORE_LABEL; ignored pixels are excluded.

    Returns:
      float32[], from 0.01 to 100; 1 if all pixels are ignored, NaN if a label is out of range. The limits are reached
      where every pixel is right, or the logits say nothing about the labels.
    """
    labels = labels.astype(jnp.int32)
    valid = labels != IGNORE_LABEL
    # Ignored pixels may hold any value, NaN included.
    logits = jnp.where(valid[..., None], logits.astype(jnp.float32), 0)
    own = jnp.take_along_axis(logits, jnp.where(valid, labels, 0)[..., None], -1)
    relative = logits - own

    def derivative(log_inverse: jax.Array) -> jax.Array:
        """Returns the derivative for 1 / temperature, up to a factor: the expected logit minus that of the label."""
        weights = jax.nn.softmax(relative * jnp.exp(log_inverse))
        return jnp.where(valid, (weights * relative).sum(-1), 0).sum()

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        rising = derivative(middle) > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high)

    limits = -jnp.log(jnp.float32(MAX_TEMPERATURE)), -jnp.log(jnp.float32(MIN_TEMPERATURE))
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, limits)
    wrong = (valid & ((labels < 0) | (labels >= logits.shape[-1]))).any()
    return jnp.where(wrong, jnp.nan, jnp.where(valid.any(), jnp.exp(-(low + high) / 2), 1.0))


BISECTIONS = 30
"""The number of times that the interval of log(temperature), of length 9.2, is halved."""
