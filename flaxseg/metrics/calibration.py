"""Whether a prediction's confidence is the share of right pixels: expected and maximum calibration error."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import Summed
from flaxseg.metrics.confidence import confidence
from flaxseg.metrics.counting import histogram, is_class
from flaxseg.metrics.fixed_point import join_bytes, split_bytes
from flaxseg.metrics.ratios import ratio

BINS = 15

EDGES = np.linspace(0, 1, BINS + 1)
"""A bin has its lower edge and not its upper one; the last has both."""

ONE = 2**24
"""A confidence of 1 as an integer."""


class Reliability(NamedTuple):
    """What a reliability diagram shows, float64[BINS] each; NaN in a bin without pixels, but for the share."""

    confidence: np.ndarray
    """Mean confidence of the bin's pixels."""
    accuracy: np.ndarray
    """Share of them that are right."""
    share: np.ndarray
    """Share of all pixels that are in the bin."""


@struct.dataclass
class Calibration(Summed):
    r"""Confidence and correctness of the most likely class, in 15 bins of confidence, as a CLU metric.

    .. math:: ECE = \sum_b \frac{n_b}{n} |acc_b - conf_b|, \quad MCE = \max_b |acc_b - conf_b|

    Confidences, the largest softmax probability of each pixel, are rounded to 2**-24 and added up as integers: exact
    for pictures of less than 2**23 pixels and batches of less than 2**23 pictures and 2**31 pixels.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599

    Attributes:
      counts: int[BINS, 2], how many pixels are wrong and right.
      confidences: int[BINS, 2, 3, 4], the sum of their confidences in parts; see confidence_sums().
      undefined: int scalar: how many pixels have no confidence, as a logit is NaN or the largest is infinite.
    """

    counts: jax.Array | np.ndarray
    confidences: jax.Array | np.ndarray
    undefined: jax.Array | np.ndarray

    @classmethod
    def from_model_output(cls, *, logits: jax.Array, label: jax.Array, **_: Any) -> Self:
        """Counts the pixels of a batch.

        Args:
          logits: float[B, H, W, K].
          label: integer[B, H, W]; pixels that are no class are left out.
        """
        probability = confidence(logits.astype(jnp.float32))
        defined, counted = ~jnp.isnan(probability), is_class(label, logits.shape[-1])
        chosen = (probability[..., None] >= jnp.asarray(EDGES[1:-1], jnp.float32)).sum(-1)
        right = (logits.argmax(-1) == label).astype(jnp.int32)
        index = jnp.where(counted & defined, 2 * chosen + right, 2 * BINS)
        fixed = jnp.round(jnp.where(defined, probability, 0) * ONE).astype(jnp.int32)
        # Split before the sum over pixels, and once more before that over pictures: neither can then overflow.
        parts = [histogram(index, 2 * BINS, amount) for amount in jnp.moveaxis(split_bytes(fixed, 3), -1, 0)]
        sums = split_bytes(jnp.stack(parts, axis=-1), 4).sum(0)
        return cls(
            counts=histogram(index, 2 * BINS).sum(0).reshape(BINS, 2),
            confidences=sums.reshape(BINS, 2, 3, 4),
            undefined=(counted & ~defined).sum(),
        )

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns the counts of no pixels, on the host, which are alike for any number of classes."""
        shapes = ((BINS, 2), (BINS, 2, 3, 4), ())
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def confidence_sums(self) -> np.ndarray:
        """Returns int64[BINS]: the sum of each bin's confidences, in units of 2**-24."""
        return join_bytes(join_bytes(np.asarray(self.confidences))).sum(-1)

    def reliability(self) -> Reliability:
        """Returns each bin's confidence, accuracy and share of pixels."""
        counts = np.asarray(self.counts).astype(np.int64)
        pixels = counts.sum(-1)
        return Reliability(
            confidence=ratio(self.confidence_sums(), ONE * pixels),
            accuracy=ratio(counts[:, 1], pixels),
            share=ratio(pixels, pixels.sum()),
        )

    def compute(self) -> dict[str, float]:
        """Returns `calibration/ece` and `calibration/mce`.

        NaN without a pixel, and where a pixel has no confidence, so that it is noticed.
        """
        counts = np.asarray(self.counts).astype(np.int64)
        if self.undefined or not counts.any():
            return {"calibration/ece": float("nan"), "calibration/mce": float("nan")}
        gaps = np.abs(ONE * counts[:, 1] - self.confidence_sums())
        pixels = counts.sum(-1)
        worst = ratio(gaps, ONE * pixels)
        # Python's integers, so that there is one rounding.
        ece = sum(gaps.tolist()) / (ONE * int(pixels.sum()))
        return {"calibration/ece": ece, "calibration/mce": float(np.nanmax(worst))}

    def table(self, class_names: Sequence[str] = ()) -> str:
        """Returns a text table of each bin's confidence, accuracy and share of pixels; classes do not matter."""
        lines = [f"{'bin':<13}  {'confidence':>10}  {'accuracy':>8}  {'share':>7}"]
        for lower, upper, *row in zip(EDGES[:-1], EDGES[1:], *self.reliability(), strict=True):
            lines.append(f"{lower:.3f}..{upper:.3f}   {row[0]:10.4f}  {row[1]:8.4f}  {row[2]:7.4f}")
        return "\n".join(lines)
