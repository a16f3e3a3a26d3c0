"""Cross-entropy of an evaluation set: the loss that most networks are trained with, as an exact mean over pixels."""

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import CountMetric
from flaxseg.metrics.counting import histogram, is_class
from flaxseg.metrics.fixed_point import join_bytes, sums_by_bin
from flaxseg.metrics.ratios import ratio
from flaxseg.metrics.softmax import CROSS_ENTROPY_BITS, cross_entropy
from flaxseg.shapes import check_label


@struct.dataclass
class CrossEntropy(CountMetric):
    r"""Mean cross-entropy over the pixels of all images, in nats, as a CLU metric: the validation loss.

    .. math:: -\frac{1}{n} \sum_i \log p_i

    with the softmax probability p_i of the class that the i-th of n valid pixels is labeled with. The terms are rounded
    to multiples of 2**-20 and added up as integers: exact for images of less than 2**23 pixels and batches of less than
    2**23 images and 2**31 pixels. A term is at most 2000 plus the logarithm of the number of classes.

    Attributes:
      counts: int[K], the number of pixels of each true class.
      sums: int[K, 4, 4], the sums of their terms, split into bytes; see `class_sums`.
      undefined: int scalar: the number of pixels without a term, where a logit is NaN or the largest is infinite.
    """

    counts: jax.Array | np.ndarray
    sums: jax.Array | np.ndarray
    undefined: jax.Array | np.ndarray

    @classmethod
    def from_model_output(cls, *, logits: jax.Array, label: jax.Array, **_: Any) -> Self:
        """Adds up the pixels of a batch.

        Args:
          logits: float[B, H, W, K].
          label: integer[B, H, W]; pixels that are not labeled with a class are excluded.
        """
        check_label(label, tuple(logits.shape[:-1]), logits=logits)
        classes = logits.shape[-1]
        terms, defined = cross_entropy(logits.astype(jnp.float32), label)
        valid = is_class(label, classes)
        index = jnp.where(valid & defined, label.astype(jnp.int32), classes)
        return cls(
            counts=histogram(index, classes).sum(0),
            sums=sums_by_bin(index, classes, terms, 4),
            undefined=(valid & ~defined).sum(),
        )

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns counts of 0, on the host."""
        shapes = ((num_classes,), (num_classes, 4, 4), ())
        return cls(*(np.zeros(shape, np.int64) for shape in shapes))

    def class_sums(self) -> np.ndarray:
        """Returns int64[K]: the sum of the terms of each true class, in units of 2**-20."""
        return join_bytes(join_bytes(np.asarray(self.sums)))

    def by_class(self) -> np.ndarray:
        """Returns float64[K]: the mean over the pixels of each true class, in nats; NaN for a class without pixels."""
        return ratio(self.class_sums(), np.asarray(self.counts).astype(np.int64)) / 2**CROSS_ENTROPY_BITS

    def compute(self) -> dict[str, float]:
        """Returns `cross_entropy/mean`; NaN without valid pixels, or if a term is undefined."""
        pixels = int(np.asarray(self.counts).sum())
        if self.undefined or not pixels:
            return {"cross_entropy/mean": float("nan")}
        # Python integers, so that the result is rounded only once.
        return {"cross_entropy/mean": sum(self.class_sums().tolist()) / (pixels << CROSS_ENTROPY_BITS)}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table of the mean of each true class."""
        width = max(len("class"), *map(len, class_names))
        rows = zip(class_names, self.by_class(), strict=True)
        lines = [f"{'class':<{width}}  {'cross-entropy':>13}"]
        return "\n".join([*lines, *(f"{name:<{width}}  {mean:13.4f}" for name, mean in rows)])
