"""Distances between the surfaces of label and prediction, in pixels: HD95 and average surface distance."""

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from flaxseg.metrics.accumulation import PerImageMetric
from flaxseg.metrics.borders import border_pixels, class_codes
from flaxseg.metrics.fixed_point import join_bytes, split_bytes
from flaxseg.metrics.ratios import defined_mean, ratio
from flaxseg.ops import squared_distance

PIXEL = 2**16
"""The integer that stands for a distance of 1 in sums of distances."""


@struct.dataclass
class SurfaceDistance(PerImageMetric):
    r"""95th-percentile Hausdorff distance (HD95) and average symmetric surface distance (ASSD), as a CLU metric.

    The surface of a class in an image consists of its pixels with one of their 4 neighbors outside the class or outside
    the image. Distances are measured from each pixel of one surface, of the label or the prediction, to the nearest
    pixel of the other. HD95 is the larger of the two directions' 95th percentiles, interpolated linearly. ASSD is the
    mean of the distances of both directions.

    Ignored pixels belong to no surface, and form none at their neighbors, so that predictions there have no effect. A
    pair of image and class is scored if label and prediction both have a surface.

    HD95 is exact for diagonals of up to 4096 pixels. For ASSD, distances are rounded to 2**-16 pixels, and added up
    exactly for surfaces of less than 2**23 pixels and diagonals of less than 32768 pixels.

    This is the slowest of the metrics: it computes two distance transforms for each class present in a batch.

    Taha & Hanbury 2015, https://doi.org/10.1186/s12880-015-0068-x

    `rows` is int64[N, K, 2, 7]: from the label's surface to the prediction's and back, the number of pixels, the two
    squared distances around the 95th percentile, and the sum of distances split into four bytes.
    """

    @classmethod
    def from_model_output(
        cls, *, prediction: jax.Array, label: jax.Array, num_classes: int, size: jax.Array | None = None, **_: Any
    ) -> Self:
        """Measures a batch.

        Args:
          prediction: integer[B, H, W], class indices.
          label: integer[B, H, W]; pixels where the label or the prediction is not a class are excluded.
          num_classes: K.
          size: int32[B, 2], height and width of each image, which is in the upper left of the array; None for full
            size.
        """
        codes = class_codes(prediction, label, num_classes, size)
        # [B, 2, H, W]: the class at surface pixels, and -1 elsewhere.
        surfaces = jnp.stack([jnp.where(border_pixels(code, image_edge=True), code, -1) for code in codes], axis=1)
        # One class after another, because the masks of all classes would not fit in memory.
        rows = jax.lax.map(lambda index: _measure_class(surfaces == index), jnp.arange(num_classes))
        return cls((jnp.moveaxis(rows, 0, 1),))

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Returns an empty metric, on the host."""
        return cls((np.zeros((0, num_classes, 2, 7), np.int64),))

    def hd95(self) -> np.ndarray:
        """Returns the HD95 of each image and class, float64[N, K]; NaN where undefined."""
        count, lower, upper = np.moveaxis(self.rows[..., :3], -1, 0)
        # As in numpy's linear interpolation, the rank is 0.95 (count - 1).
        fraction = 19 * (count - 1) % 20 / 20
        percentile = np.sqrt(lower) + fraction * (np.sqrt(upper) - np.sqrt(lower))
        return np.where((count > 0).all(-1), percentile.max(-1), np.nan)

    def assd(self) -> np.ndarray:
        """Returns the ASSD of each image and class, float64[N, K]; NaN where undefined."""
        rows = self.rows
        count = rows[..., 0]
        distance = ratio(join_bytes(rows[..., 3:]).sum(-1), PIXEL * count.sum(-1))
        return np.where((count > 0).all(-1), distance, np.nan)

    def compute(self) -> dict[str, float]:
        """Returns the scores below, each as `surface/NAME`; the means are NaN without pairs.

        - `hd95`, `assd`: the means over the pairs of image and class where label and prediction both have a surface.
        - `pairs`: the number of these pairs.
        - `undefined`: the number of pairs where only one of the two has a surface, so that no distance is defined.
        """
        present = self.rows[..., 0] > 0
        scores = {
            "hd95": defined_mean(self.hd95()),
            "assd": defined_mean(self.assd()),
            "pairs": float(present.all(-1).sum()),
            "undefined": float((present[..., 0] != present[..., 1]).sum()),
        }
        return {f"surface/{name}": value for name, value in scores.items()}

    def table(self, class_names: Sequence[str]) -> str:
        """Returns a text table: each class's mean HD95 and ASSD, and the numbers of scored and of undefined images."""
        present = self.rows[..., 0] > 0
        width = max(len("class"), *map(len, class_names))
        lines = [f"{'class':<{width}}  {'HD95':>8}  {'ASSD':>8}  {'images':>6}  {'undefined':>9}"]
        columns = zip(
            class_names,
            map(defined_mean, self.hd95().T),
            map(defined_mean, self.assd().T),
            present.all(-1).sum(0),
            (present[..., 0] != present[..., 1]).sum(0),
            strict=True,
        )
        lines += [
            f"{name:<{width}}  {a:8.3f}  {b:8.3f}  {pairs:6d}  {undefined:9d}"
            for name, a, b, pairs, undefined in columns
        ]
        return "\n".join(lines)


def _measure_class(surfaces: jax.Array) -> jax.Array:
    """Returns int32[B, 2, 7] for the surfaces of one class in label and prediction, bool[B, 2, H, W]."""
    count = surfaces.sum((2, 3))
    paired = (count > 0).all(1)

    def measure(surfaces: jax.Array) -> jax.Array:
        squared = squared_distance(surfaces[:, ::-1])
        bounds = _percentile_bounds(jnp.where(surfaces, squared, jnp.inf), count)
        fixed = jnp.round(jnp.where(surfaces, jnp.sqrt(squared), 0) * PIXEL).astype(jnp.int32)
        return jnp.concatenate([bounds, split_bytes(fixed, 4).sum((2, 3))], axis=-1)

    # Most images contain few of the classes of a large dataset.
    found = jax.lax.cond(paired.any(), measure, lambda s: jnp.zeros((*s.shape[:2], 6), jnp.int32), surfaces)
    return jnp.concatenate([count[..., None], jnp.where(paired[:, None, None], found, 0)], axis=-1)


def _percentile_bounds(squared: jax.Array, count: jax.Array) -> jax.Array:
    """Returns the two values around the 95th percentile of the `count` lowest values, int32[..., 2].

    The value of rank r is the largest number that at most r values are below; its bits are determined one by one,
    which is faster than sorting all pixels.

    Args:
      squared: float32[..., H, W], integers, and inf at pixels outside the surface.
      count: int32[...], the number of surface pixels.
    """
    height, width = squared.shape[-2:]
    farthest = (height - 1) ** 2 + (width - 1) ** 2
    values = jnp.where(jnp.isfinite(squared), squared, farthest + 1).astype(jnp.int32)
    rank = 19 * (count - 1) // 20

    def add_bit(at: jax.Array, found: jax.Array) -> jax.Array:
        higher = found + (1 << (farthest.bit_length() - 1 - at))
        return jnp.where((values < higher[..., None, None]).sum((-2, -1)) <= rank, higher, found)

    lower = jax.lax.fori_loop(0, farthest.bit_length(), add_bit, jnp.zeros_like(count))
    above = values > lower[..., None, None]
    following = jnp.where(above, values, farthest + 1).min((-2, -1))
    tied = (~above).sum((-2, -1)) > rank + 1
    return jnp.stack([lower, jnp.where(tied | (count < 2), lower, following)], axis=-1)
