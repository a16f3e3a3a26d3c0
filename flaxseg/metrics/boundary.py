"""How well predictions follow the outlines of classes: Boundary IoU and the boundary F-score."""

import math
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import Summed
from flaxseg.metrics.borders import IGNORED, borders, borders_within, class_codes, edge_distance, picture_sizes
from flaxseg.metrics.counting import class_counts
from flaxseg.metrics.ratios import defined_mean, ratio


@struct.dataclass
class Boundary(Summed):
    r"""Pixels at the boundaries of classes, by class, as a CLU metric; exact for batches of less than 2**31 pixels.

    Boundary IoU is the IoU of two bands, the pixels of a class in label and in prediction that are at most
    :math:`d` rows and columns from a pixel outside of it; the picture's edge is outside of every class. :math:`d` is
    2 % of the picture's diagonal, rounded to even at the half and at least 1.

    The boundary F-score compares outlines, pixels of a class with one of their 4 neighbors in another class, and the
    picture's edge makes none. A pixel of one outline is matched where the other has one of the same class within a
    disk, whose radius is 0.75 % of the diagonal, rounded up. It is :math:`2PR / (P + R)` with the matched share P of
    the predicted outline and R of the label's.

    Both pool the pixels of all pictures. An ignored pixel is of no class: it is in no band or outline, and makes none
    beside it, so that predictions there change nothing. Where ignored pixels lie around every object there is hence
    little or no boundary to score.

    Cheng et al. 2021, https://arxiv.org/abs/2103.16562. Csurka et al. 2013, https://doi.org/10.5244/C.27.32; the disk
    and the edge as in Perazzi et al. 2016, https://doi.org/10.1109/CVPR.2016.85

    Attributes:
      bands: int[K, 3]: pixels in both bands, in that of the label, and in that of the prediction.
      outlines: int[K, 4]: matched pixels and all pixels of the label's outline, then those of the prediction's.
    """

    bands: jax.Array | np.ndarray
    outlines: jax.Array | np.ndarray

    @classmethod
    def from_model_output(
        cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, size: jax.Array | None = None, **_: Any
    ) -> Self:
        """Counts the boundary pixels of a batch.

        Args:
          prediction: integer[B, H, W] of class indices.
          label: integer[B, H, W]; pixels where it or the prediction is no class are left out.
          num_classes: K.
          size: int32[B, 2], height and width of each picture, at the upper left of the array; None: all of it.
        """
        codes = class_codes(prediction, label, num_classes, size)
        squared = (picture_sizes(label.shape, size) ** 2).sum(-1)
        edge = edge_distance(label.shape, size)
        bands, outlines = _bands(codes, edge, squared), _outlines(codes, squared)
        both = bands[0] & bands[1] & (codes[0] == codes[1])

        def counts(*chosen: tuple[jax.Array, jax.Array]) -> jax.Array:
            return jnp.stack([class_counts(code, where, num_classes).sum(0) for code, where in chosen], axis=-1)

        (label_matched, label_outline), (matched, outline) = outlines
        return cls(
            bands=counts((codes[0], both), (codes[0], bands[0]), (codes[1], bands[1])),
            outlines=counts(
                (codes[0], label_matched), (codes[0], label_outline), (codes[1], matched), (codes[1], outline)
            ),
        )

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns the counts of no pixels, on the host."""
        return cls(np.zeros((num_classes, 3), np.int64), np.zeros((num_classes, 4), np.int64))

    def iou(self) -> np.ndarray:
        """Returns each class's Boundary IoU, float64[K]; NaN where neither label nor prediction has a band."""
        both, label, prediction = np.moveaxis(np.asarray(self.to_host().bands), -1, 0)
        return ratio(both, label + prediction - both)

    def f_score(self) -> np.ndarray:
        """Returns each class's boundary F-score, float64[K].

        NaN where neither label nor prediction has an outline, 0 where only one has.
        """
        matched_label, label, matched, prediction = np.moveaxis(np.asarray(self.to_host().outlines), -1, 0)
        recall, precision = (np.nan_to_num(ratio(a, b)) for a, b in ((matched_label, label), (matched, prediction)))
        score = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
        return np.where(label + prediction > 0, score, np.nan)

    def compute(self) -> dict[str, float]:
        """Returns `boundary/miou` and `boundary/mean_f_score`, the means of the classes that are not NaN."""
        return {"boundary/miou": defined_mean(self.iou()), "boundary/mean_f_score": defined_mean(self.f_score())}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table: each class's Boundary IoU and boundary F-score."""
        width = max(len("class"), *map(len, class_names))
        lines = [f"{'class':<{width}}  {'boundary IoU':>12}  {'F-score':>7}"]
        columns = zip(class_names, self.iou(), self.f_score(), strict=True)
        return "\n".join(lines + [f"{name:<{width}}  {iou:12.4f}  {score:7.4f}" for name, iou, score in columns])


def band_width(squared_diagonal: jax.Array, limit: int) -> jax.Array:
    """Returns int32[B], 2 % of each diagonal, rounded to even at the half and at least 1, up to the limit."""
    # Whole numbers: a diagonal such as that of 375 x 500 pixels lies right at a half.
    step = jnp.arange(limit)
    half, squared = 625 * (2 * step + 1) ** 2, squared_diagonal[:, None]
    return jnp.maximum(((squared > half) | ((squared == half) & (step % 2 == 1))).sum(-1), 1)


def match_radius(squared_diagonal: jax.Array, limit: int) -> jax.Array:
    """Returns int32[B], 0.75 % of each diagonal rounded up, up to the limit."""
    return (160_000 * jnp.arange(limit) ** 2 < 9 * squared_diagonal[:, None]).sum(-1)


def _bands(codes: tuple[jax.Array, jax.Array], edge: jax.Array, squared: jax.Array) -> list[jax.Array]:
    """The bands of label and prediction, bool[B, H, W] each."""
    limit = math.isqrt(edge.shape[1] ** 2 + edge.shape[2] ** 2) // 50 + 1
    width = band_width(squared, limit)
    at_edge = edge <= width[:, None, None]
    return [borders_within(code, width, limit) | (at_edge & (code >= 0)) for code in codes]


def _outlines(codes: tuple[jax.Array, jax.Array], squared: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Of label and prediction, which pixels of the outline are matched, and all of them, bool[B, H, W] each."""
    height, width = codes[0].shape[1:]
    limit = math.isqrt(9 * (height**2 + width**2) // 160_000) + 1
    # Narrow integers: the loop below is bound by memory.
    outlines = [jnp.where(borders(code, picture_edge=False), code, IGNORED).astype(jnp.int16) for code in codes]
    padded = [jnp.pad(x, ((0, 0), (limit, limit), (limit, limit)), constant_values=IGNORED) for x in outlines]
    reach = match_radius(squared, limit) ** 2
    offsets = jnp.asarray(_disk(limit))

    # One pass an offset serves all classes; a distance transform would have to be made for each of them.
    def match(at: jax.Array, matched: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        down, right = offsets[at]
        near = (offsets[at] ** 2).sum() <= reach
        start = (0, limit + down, limit + right)
        moved = [jax.lax.dynamic_slice(x, start, outlines[0].shape) for x in padded[::-1]]
        pairs = zip(matched, outlines, moved, strict=True)
        return tuple(m | (near[:, None, None] & (own == other)) for m, own, other in pairs)

    nothing = jnp.zeros(codes[0].shape, bool)
    matched = jax.lax.fori_loop(0, len(offsets), match, (nothing, nothing))
    return [(m & (x >= 0), x >= 0) for m, x in zip(matched, outlines, strict=True)]


def _disk(radius: int) -> np.ndarray:
    """The offsets, rows and columns, of the pixels within a radius, int32[N, 2]."""
    grid = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).T
    return grid[(grid**2).sum(1) <= radius**2].astype(np.int32)
