"""How well predictions follow the boundaries of classes: Boundary IoU and the boundary F-score."""

import math
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import CountMetric
from flaxseg.metrics.borders import (
    IGNORED,
    border_band,
    border_pixels,
    class_bits,
    class_codes,
    disk_union,
    edge_distance,
    image_sizes,
)
from flaxseg.metrics.counting import counted, histogram
from flaxseg.metrics.ratios import defined_mean, ratio

_NO_OUTLINES = (
    "The labels have no outlines between classes: an image has only one class, or ignored pixels lie between its "
    "classes. There is no F-score, and the only true bands of Boundary IoU are those along the edges of the images."
)

Codes = tuple[jax.Array, jax.Array]
"""The class codes of label and prediction, int32[B, H, W] each."""


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
    or no boundary remains to be scored: where no class has a true outline in any image, the F-score of every class is
    NaN, and `table` says so; the only true bands are then those along the edges of the images.

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
        bands = _bands(codes, edge, squared_diagonal)
        outlines = _outlines(codes, squared_diagonal, num_classes)
        both = bands[0] & bands[1] & (codes[0] == codes[1])
        selections = (both, bands[0], *outlines[0]), (bands[1], *outlines[1])

        def count(codes: Codes, selections: Sequence[Sequence[jax.Array]]) -> list[jax.Array]:
            return [_counts(*pair, num_classes) for pair in zip(codes, selections, strict=True)]

        of_label, of_prediction = counted(count, codes, selections, where=codes[0] >= 0)
        return cls(
            bands=jnp.concatenate([of_label[:, :2], of_prediction[:, :1]], axis=1),
            outlines=jnp.concatenate([of_label[:, 2:], of_prediction[:, 1:]], axis=1),
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

        NaN if neither label nor prediction has an outline, 0 if only one of them has; NaN for all classes if no label
        has any outline, because then there is nothing to match.
        """
        matched_label, label, matched, prediction = np.moveaxis(np.asarray(self.to_host().outlines), -1, 0)
        recall, precision = (np.nan_to_num(ratio(a, b)) for a, b in ((matched_label, label), (matched, prediction)))
        score = np.nan_to_num(ratio(2 * precision * recall, precision + recall))
        return np.where((label + prediction > 0) & label.any(), score, np.nan)

    def compute(self) -> dict[str, float]:
        """Returns `boundary/miou` and `boundary/mean_f_score`, the means over the classes that are not NaN."""
        return {"boundary/miou": defined_mean(self.iou()), "boundary/mean_f_score": defined_mean(self.f_score())}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table of the Boundary IoU and boundary F-score of each class.

        A last line reports where the labels have no outline at all.
        """
        width = max(len("class"), *map(len, class_names))
        lines = [f"{'class':<{width}}  {'boundary IoU':>12}  {'F-score':>7}"]
        columns = zip(class_names, self.iou(), self.f_score(), strict=True)
        lines += [f"{name:<{width}}  {iou:12.4f}  {score:7.4f}" for name, iou, score in columns]
        counts = self.to_host()
        has_none = counts.bands.any() and not counts.outlines[:, 1].any()
        return "\n".join([*lines, _NO_OUTLINES] if has_none else lines)


def band_width(squared_diagonal: jax.Array, max_width: int) -> jax.Array:
    """Returns int32[B]: 2 % of each diagonal, rounded half to even, at least 1 and at most `max_width`."""
    # Integers, because 2 % of the diagonal of 375 x 500 pixels, for example, is exactly 12.5.
    step = jnp.arange(max_width)
    half, squared = 625 * (2 * step + 1) ** 2, squared_diagonal[:, None]
    return jnp.maximum(((squared > half) | ((squared == half) & (step % 2 == 1))).sum(-1), 1)


def match_radius(squared_diagonal: jax.Array, max_radius: int) -> jax.Array:
    """Returns int32[B]: 0.75 % of each diagonal, rounded up, at most `max_radius`."""
    return (160_000 * jnp.arange(max_radius) ** 2 < 9 * squared_diagonal[:, None]).sum(-1)


def _bands(codes: Codes, edge: jax.Array, squared_diagonal: jax.Array) -> list[jax.Array]:
    """Returns the bands of label and prediction, bool[B, H, W] each."""
    max_width = math.isqrt(edge.shape[1] ** 2 + edge.shape[2] ** 2) // 50 + 1
    width = band_width(squared_diagonal, max_width)
    at_edge = edge <= width[:, None, None]
    return [border_band(code, width, max_width) | (at_edge & (code >= 0)) for code in codes]


def _outlines(codes: Codes, squared_diagonal: jax.Array, num_classes: int) -> list[tuple[jax.Array, jax.Array]]:
    """Returns the matched pixels and all pixels of the outlines, bool[B, H, W] each: of the label, the prediction."""
    height, width = codes[0].shape[1:]
    max_radius = math.isqrt(9 * (height**2 + width**2) // 160_000) + 1
    radius = match_radius(squared_diagonal, max_radius)
    outlines = [border_pixels(code, image_edge=False) for code in codes]
    # Sets of classes, so that one dilation serves all of them.
    bits = [class_bits(jnp.where(x, c, IGNORED), num_classes) for c, x in zip(codes, outlines, strict=True)]
    near = [disk_union(x, radius, max_radius) for x in bits]
    matched = [((own & other) != 0).any(0) for own, other in zip(bits, near[::-1], strict=True)]
    return list(zip(matched, outlines, strict=True))


def _counts(codes: jax.Array, selections: Sequence[jax.Array], num_classes: int) -> jax.Array:
    """Returns int32[K, N]: the number of pixels of each class in each of N selections, bool[B, H, W]."""
    # One histogram of all combinations, because each pass over the pixels takes time.
    shape = (2,) * len(selections)
    index = codes * 2 ** len(selections)
    for bit, where in enumerate(selections):
        index += where * 2**bit
    bins = num_classes * 2 ** len(selections)
    combined = histogram(jnp.where(codes >= 0, index, bins), bins).sum(0).reshape(num_classes, *shape)
    # The first selection is the lowest bit, and so the last axis.
    return jnp.stack([jnp.take(combined, 1, axis=-1 - n).sum(range(1, len(shape))) for n in range(len(shape))], axis=-1)
