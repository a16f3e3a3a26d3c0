"""Calibration, whether confidence equals accuracy: expected and maximum calibration error."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import CountMetric
from flaxseg.metrics.counting import histogram, is_class
from flaxseg.metrics.fixed_point import join_bytes, sums_by_bin
from flaxseg.metrics.ratios import ratio
from flaxseg.metrics.softmax import confidence
from flaxseg.shapes import check_label

BINS = 15

EDGES = np.linspace(0, 1, BINS + 1)
"""Bins include their lower edge and exclude their upper edge; the last bin includes both."""

ONE = 2**24
"""The integer that stands for a confidence of 1."""


class Reliability(NamedTuple):
    """The contents of a reliability diagram, float64[BINS] each; bins without pixels have NaN and a fraction of 0."""

    confidence: np.ndarray
    """Mean confidence of the pixels in the bin."""
    accuracy: np.ndarray
    """Fraction of the pixels in the bin whose prediction is correct."""
    fraction: np.ndarray
    """Fraction of all pixels that are in the bin."""


@struct.dataclass
class Calibration(CountMetric):
    r"""Expected and maximum calibration error (ECE, MCE) with 15 bins of confidence, as a CLU metric.

    .. math:: ECE = \sum_b \frac{n_b}{n} |acc_b - conf_b|, \quad MCE = \max_b |acc_b - conf_b|

    with the accuracy acc_b and the mean confidence conf_b of the n_b pixels in bin b. The confidence of a pixel is its
    largest softmax probability. Confidences are rounded to multiples of 2**-24 and added up as integers: exact for
    images of less than 2**23 pixels and batches of less than 2**23 images and 2**31 pixels.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599

    Attributes:
      counts: int[BINS, 2], the numbers of incorrect and of correct pixels.
      confidences: int[BINS, 2, 3, 4], the sums of their confidences, split into bytes; see `confidence_sums`.
      undefined: int scalar: the number of pixels without a confidence, where a logit is NaN or the largest is infinite.
    """

    counts: jax.Array | np.ndarray
    confidences: jax.Array | np.ndarray
    undefined: jax.Array | np.ndarray

    @classmethod
    def from_model_output(cls, *, logits: jax.Array, label: jax.Array, **_: Any) -> Self:
        """Counts the pixels of a batch.

        Args:
          logits: float[B, H, W, K].
          label: integer[B, H, W]; pixels that are not labeled with a class are excluded.
        """
        check_label(label, tuple(logits.shape[:-1]), logits=logits)
        probability = confidence(logits.astype(jnp.float32))
        defined, valid = ~jnp.isnan(probability), is_class(label, logits.shape[-1])
        bins = (probability[..., None] >= jnp.asarray(EDGES[1:-1], jnp.float32)).sum(-1)
        correct = (logits.argmax(-1) == label).astype(jnp.int32)
        index = jnp.where(valid & defined, 2 * bins + correct, 2 * BINS)
        fixed = jnp.round(jnp.where(defined, probability, 0) * ONE).astype(jnp.int32)
        return cls(
            counts=histogram(index, 2 * BINS).sum(0).reshape(BINS, 2),
            confidences=sums_by_bin(index, 2 * BINS, fixed, 3).reshape(BINS, 2, 3, 4),
            undefined=(valid & ~defined).sum(),
        )

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns counts of 0, on the host; their shapes do not depend on the number of classes."""
        shapes = ((BINS, 2), (BINS, 2, 3, 4), ())
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def confidence_sums(self) -> np.ndarray:
        """Returns int64[BINS]: the sum of the confidences in each bin, in units of 2**-24."""
        return join_bytes(join_bytes(np.asarray(self.confidences))).sum(-1)

    def reliability(self) -> Reliability:
        """Returns the mean confidence, accuracy and fraction of pixels of each bin."""
        counts = np.asarray(self.counts).astype(np.int64)
        pixels = counts.sum(-1)
        return Reliability(
            confidence=ratio(self.confidence_sums(), ONE * pixels),
            accuracy=ratio(counts[:, 1], pixels),
            fraction=ratio(pixels, pixels.sum()),
        )

    def compute(self) -> dict[str, float]:
        """Returns `calibration/ece` and `calibration/mce`.

        Both are NaN without valid pixels, or if the confidence of any valid pixel is undefined.
        """
        counts = np.asarray(self.counts).astype(np.int64)
        if self.undefined or not counts.any():
            return {"calibration/ece": float("nan"), "calibration/mce": float("nan")}
        gaps = np.abs(ONE * counts[:, 1] - self.confidence_sums())
        pixels = counts.sum(-1)
        worst = ratio(gaps, ONE * pixels)
        # Python integers, so that the result is rounded only once.
        ece = sum(gaps.tolist()) / (ONE * int(pixels.sum()))
        return {"calibration/ece": ece, "calibration/mce": float(np.nanmax(worst))}

    def table(self, class_names: Sequence[str] = ()) -> str:
        """Returns a text table of the reliability of each bin; the class names are unused."""
        lines = [f"{'bin':<13}  {'confidence':>10}  {'accuracy':>8}  {'fraction':>8}"]
        for lower, upper, *row in zip(EDGES[:-1], EDGES[1:], *self.reliability(), strict=True):
            lines.append(f"{lower:.3f}..{upper:.3f}   {row[0]:10.4f}  {row[1]:8.4f}  {row[2]:8.4f}")
        return "\n".join(lines)
