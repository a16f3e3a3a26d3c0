"""How well predictions follow the boundaries of classes: Boundary IoU and the boundary F-score."""

import math
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import CountMetric
from flaxseg.metrics.borders import IGNORED, border_band, border_pixels, class_codes, edge_distance, image_sizes
from flaxseg.metrics.counting import class_counts
from flaxseg.metrics.ratios import defined_mean, ratio


@struct.dataclass
class Boundary(CountMetric):
    r"""Boundary IoU and boundary F-score of each class, as a CLU metric; exact for batches of less than 2**31 pixels.

    Boundary IoU is the IoU of two bands: the pixels of a class, in the label and in the prediction, that are at most
    :math:`d` rows and columns away from a pixel outside the class. Everything beyond the image's edge is outside of
    every class. :math:`d` is 2 % of the image's diagonal, rounded half to even, and at least 1.

    The boundary F-score compares outlines: the pixels of a class with one of their 4 neighbors in another class, where
    the image's edge forms no outline. A pixel of one outline is matched if the other outline has a pixel of the same
    class within a disk, whose radius is 0.75 % of the image's diagonal, rounded up. The score is
    :math:`2PR / (P + R)`, where P and R are the matched fractions of the predicted and of the true outline.

    Both pool the pixels of all images. Ignored pixels belong to no band and no outline, and form none at their
    neighbors, so that predictions there have no effect. If a dataset surrounds its objects with ignored pixels, little
    or no boundary remains to be scored.

    Cheng et al. 2021, https://arxiv.org/abs/2103.16562. Csurka et al. 2013, https://doi.org/10.5244/C.27.32; the disk
    and the edge as in Perazzi et al. 2016, https://doi.org/10.1109/CVPR.2016.85

    Attributes:
      bands: int[K, 3]: the numbers of pixels in both bands, in the label's band, and in the prediction's band.
      outlines: int[K, 4]: the numbers of matched pixels and of all pixels of the label's outline, then those of the
        prediction's outline.
    """

    bands: jax.Array | np.ndarray
    outlines: jax.Array | np.ndarray

    @classmethod
    def from_model_output(
        cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, size: jax.Array | None = None, **_: Any
    ) -> Self:
        """Counts the boundary pixels of a batch.

        Args:
          prediction: integer[B, H, W], class indices.
          label: integer[B, H, W]; pixels where the label or the prediction is not a class are excluded.
          num_classes: K.
          size: int32[B, 2], height and width of each image, which is in the upper left of the array; None for full
            size.
        """
        codes = class_codes(prediction, label, num_classes, size)
        squared_diagonal = (image_sizes(label.shape, size) ** 2).sum(-1)
        edge = edge_distance(label.shape, size)
        bands, outlines = _bands(codes, edge, squared_diagonal), _outlines(codes, squared_diagonal)
        both = bands[0] & bands[1] & (codes[0] == codes[1])

        def counts(*selected: tuple[jax.Array, jax.Array]) -> jax.Array:
            return jnp.stack([class_counts(code, where, num_classes).sum(0) for code, where in selected], axis=-1)

        (label_matched, label_outline), (matched, outline) = outlines
        return cls(
            bands=counts((codes[0], both), (codes[0], bands[0]), (codes[1], bands[1])),
            outlines=counts(
                (codes[0], label_matched), (codes[0], label_outline), (codes[1], matched), (codes[1], outline)
            ),
        )

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns counts of 0, on the host."""
        return cls(np.zeros((num_classes, 3), np.int64), np.zeros((num_classes, 4), np.int64))

    def iou(self) -> np.ndarray:
        """Returns the Boundary IoU of each class, float64[K]; NaN if neither label nor prediction has a band."""
        both, label, prediction = np.moveaxis(np.asarray(self.to_host().bands), -1, 0)
        return ratio(both, label + prediction - both)

    def f_score(self) -> np.ndarray:
        """Returns the boundary F-score of each class, float64[K].

        NaN if neither label nor prediction has an outline, 0 if only one of them has.
        """
        matched_label, label, matched, prediction = np.moveaxis(np.asarray(self.to_host().outlines), -1, 0)
        recall, precision = (np.nan_to_num(ratio(a, b)) for a, b in ((matched_label, label), (matched, prediction)))
        score = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
        return np.where(label + prediction > 0, score, np.nan)

    def compute(self) -> dict[str, float]:
        """Returns `boundary/miou` and `boundary/mean_f_score`, the means over the classes that are not NaN."""
        return {"boundary/miou": defined_mean(self.iou()), "boundary/mean_f_score": defined_mean(self.f_score())}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table of the Boundary IoU and boundary F-score of each class."""
        width = max(len("class"), *map(len, class_names))
        lines = [f"{'class':<{width}}  {'boundary IoU':>12}  {'F-score':>7}"]
        columns = zip(class_names, self.iou(), self.f_score(), strict=True)
        return "\n".join(lines + [f"{name:<{width}}  {iou:12.4f}  {score:7.4f}" for name, iou, score in columns])


def band_width(squared_diagonal: jax.Array, max_width: int) -> jax.Array:
    """Returns int32[B]: 2 % of each diagonal, rounded half to even, at least 1 and at most `max_width`."""
    # Integers, because 2 % of the diagonal of 375 x 500 pixels, for example, is exactly 12.5.
    step = jnp.arange(max_width)
    half, squared = 625 * (2 * step + 1) ** 2, squared_diagonal[:, None]
    return jnp.maximum(((squared > half) | ((squared == half) & (step % 2 == 1))).sum(-1), 1)


def match_radius(squared_diagonal: jax.Array, max_radius: int) -> jax.Array:
    """Returns int32[B]: 0.75 % of each diagonal, rounded up, at most `max_radius`."""
    return (160_000 * jnp.arange(max_radius) ** 2 < 9 * squared_diagonal[:, None]).sum(-1)


def _bands(codes: tuple[jax.Array, jax.Array], edge: jax.Array, squared_diagonal: jax.Array) -> list[jax.Array]:
    """Returns the bands of label and prediction, bool[B, H, W] each."""
    max_width = math.isqrt(edge.shape[1] ** 2 + edge.shape[2] ** 2) // 50 + 1
    width = band_width(squared_diagonal, max_width)
    at_edge = edge <= width[:, None, None]
    return [border_band(code, width, max_width) | (at_edge & (code >= 0)) for code in codes]


def _outlines(codes: tuple[jax.Array, jax.Array], squared_diagonal: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Returns the matched pixels and all pixels of the outlines, bool[B, H, W] each: of the label, the prediction."""
    height, width = codes[0].shape[1:]
    max_radius = math.isqrt(9 * (height**2 + width**2) // 160_000) + 1
    # Narrow integers, because the loop below is memory-bound.
    outlines = [jnp.where(border_pixels(code, image_edge=False), code, IGNORED).astype(jnp.int16) for code in codes]
    padded = [
        jnp.pad(x, ((0, 0), (max_radius, max_radius), (max_radius, max_radius)), constant_values=IGNORED)
        for x in outlines
    ]
    squared_radius = match_radius(squared_diagonal, max_radius) ** 2
    offsets = jnp.asarray(_disk(max_radius))

    # One pass per offset serves all classes; distance transforms would be needed for each of them.
    def match(at: jax.Array, matched: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        down, right = offsets[at]
        near = (offsets[at] ** 2).sum() <= squared_radius
        start = (0, max_radius + down, max_radius + right)
        shifted = [jax.lax.dynamic_slice(x, start, outlines[0].shape) for x in padded[::-1]]
        pairs = zip(matched, outlines, shifted, strict=True)
        return tuple(m | (near[:, None, None] & (own == other)) for m, own, other in pairs)

    nothing = jnp.zeros(codes[0].shape, bool)
    matched = jax.lax.fori_loop(0, len(offsets), match, (nothing, nothing))
    return [(m & (x >= 0), x >= 0) for m, x in zip(matched, outlines, strict=True)]


def _disk(radius: int) -> np.ndarray:
    """Returns the offsets of the pixels within a radius, rows and columns, int32[N, 2]."""
    grid = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).T
    return grid[(grid**2).sum(1) <= radius**2].astype(np.int32)
