"""Random spatial transforms: the positions in the original image at which the pixels of a crop are sampled."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxseg.augment.positions import Placement, Transform, positions
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import FRACTION, NON_NEGATIVE, ArgumentError, Range
from flaxseg.ops import sample_nearest

_ELASTIC_NODES = 4
"""An elastic transform interpolates random displacements on a grid of 4x4 nodes over the crop."""

_CROP_CANDIDATES = 10
"""Number of random crops tried for one without too much of a single class."""

_CLASS_SAMPLES = 32
"""The classes in a candidate crop are counted on a grid of 32x32 points."""

SPATIAL: dict[str, Range] = {
    "flip": FRACTION,
    "flip_vertical": FRACTION,
    "rotate90": FRACTION,
    "rotate": NON_NEGATIVE,
    "shear": Range(0, 89),
    "elastic": NON_NEGATIVE,
    "max_class_fraction": FRACTION,
}
"""The range of the strength of each spatial change, by the name of its argument in `make_spatial_transform`."""


class SamplingGrid(NamedTuple):
    """Positions in the canvas, in its pixels, for each pixel of the crop; (0, 0) is the center of the first pixel."""

    rows: jax.Array
    """float32[B, h, w], or [B, h, 1] if each row of the crop lies in a single row of the canvas."""
    columns: jax.Array
    """float32[B, h, w] or [B, 1, w]."""
    shrinkage: jax.Array
    """float32[B], the number of canvas pixels per pixel of the crop."""


SpatialTransform = Callable[[jax.Array, jax.Array, Placement | None], SamplingGrid]
"""A function (random key, label uint8[B, H, W], placement of the images if they keep their scale) -> sampling grid."""


def make_spatial_transform(
    *,
    crop_size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    flip: float = 0.0,
    flip_vertical: float = 0.0,
    rotate90: float = 0.0,
    rotate: float = 0.0,
    shear: float = 0.0,
    elastic: float = 0.0,
    max_class_fraction: float = 0.0,
) -> SpatialTransform:
    """Returns a function that draws a random crop of each image, and the positions where its pixels are sampled.

    Args:
      crop_size: height and width of the crop, in pixels.
      scale: the range of the zoom, which is log-uniform. At 1 the whole canvas fills the crop; above 1 the crop is at a
        random position in the enlarged image; below 1 the reduced image is at a random position in the crop. For images
        that keep their scale (with a `Placement`), 1 is their own scale, and the crop is at a random position in the
        image, or the image in the crop, whichever is smaller along an axis.
      flip: the probability of a horizontal flip.
      flip_vertical: the probability of a vertical flip.
      rotate90: the probability of a rotation by 90, 180 or 270 degrees. A crop that is not square keeps its shape, so
        that a rotation by 90 or 270 degrees cuts off what does not fit.
      rotate: the largest rotation around the center, in degrees, in either direction.
      shear: the largest horizontal shear, as the angle by which columns are tilted, in degrees, in either direction; at
        most 89.
      elastic: the standard deviation of smooth random displacements, the same everywhere, as a fraction of the sides
        of the crop; up to 0.05 is common, and images fold over from about 0.1.
      max_class_fraction: the largest fraction of the crop that one class should occupy; 0 disables this. The first of
        ten random crops that complies is used, so that it has an effect only if the zoom leaves a choice.

    Raises:
      ArgumentError: `scale` is not a range of numbers above 0, or a strength is out of its range in `SPATIAL`.
    """
    if not 0 < scale[0] <= scale[1]:
        raise ArgumentError("scale", scale, "must be two numbers above 0, the smaller one first")
    strengths = (flip, flip_vertical, rotate90, rotate, shear, elastic, max_class_fraction)
    for (name, allowed), strength in zip(SPATIAL.items(), strengths, strict=True):
        allowed.check(name, strength)
    # If each row of the crop lies in a single row of the canvas, sampling is much cheaper.
    is_separable = not (rotate90 or rotate or shear)

    def transform(key: jax.Array, label: jax.Array, placement: Placement | None = None) -> SamplingGrid:
        batch, canvas = label.shape[0], label.shape[1:3]
        crop_key, zoom_key, flip_key, rotate90_key, angle_key, elastic_key = jax.random.split(key, 6)
        low, high = jnp.log(jnp.asarray(scale, jnp.float32))
        zoom = jnp.exp(jax.random.uniform(zoom_key, (batch,), minval=low, maxval=high))
        linear = _flips(flip_key, batch, flip_vertical, flip)
        if not is_separable:
            quarter_turns = _quarter_turns(rotate90_key, batch, rotate90)
            linear = _matmul(linear, quarter_turns, _inverse_rotation_and_shear(angle_key, batch, rotate, shear))
        displacement = _displacement(elastic_key, batch, crop_size, elastic) if elastic else None
        drawn = Transform(zoom, linear, displacement, placement and placement.begin_and_extent(canvas))
        crop_offset = jax.random.uniform(crop_key, (batch, 2)) if placement is None else placement.offset
        if max_class_fraction:
            crop_offset = _crop_offset(crop_key, label, drawn, crop_size, max_class_fraction, placement)
        pixels = tuple(jnp.arange(size) + 0.5 for size in crop_size)
        rows, columns = positions(drawn, crop_offset, pixels, crop_size, canvas, is_separable)
        shrinkage = 1.0 if placement is not None else canvas[0] / crop_size[0]
        return SamplingGrid(rows, columns, shrinkage / zoom)

    return transform


def _crop_offset(
    key: jax.Array,
    label: jax.Array,
    transform: Transform,
    crop_size: tuple[int, int],
    max_fraction: float,
    placement: Placement | None,
) -> jax.Array:
    """Returns float32[B, 2]: the first of ten random crop offsets where no class exceeds `max_fraction` of the crop.

    If all exceed it, the one with the smallest fraction. Ignored pixels are excluded; elastic displacements are
    disregarded.
    """
    candidates = jax.random.uniform(key, (_CROP_CANDIDATES, label.shape[0], 2))
    if placement is not None:
        candidates = candidates.at[0].set(placement.offset)
    points = tuple((jnp.arange(_CLASS_SAMPLES) + 0.5) * (size / _CLASS_SAMPLES) for size in crop_size)
    transform = transform._replace(displacement=None)

    def largest_fraction(crop_offset: jax.Array) -> jax.Array:
        rows, columns = positions(transform, crop_offset, points, crop_size, label.shape[1:3], False)
        sampled = sample_nearest(label, rows, columns, outside=IGNORE_LABEL).reshape(label.shape[0], -1)
        counts = jax.vmap(lambda values: jnp.bincount(values, length=256))(sampled)[:, :IGNORE_LABEL]
        total = counts.sum(-1)
        return jnp.where(total > 0, counts.max(-1) / jnp.maximum(total, 1), 1.0)

    fractions = jax.vmap(largest_fraction)(candidates)
    best = jnp.argmin(jnp.where(fractions <= max_fraction, 0.0, fractions), axis=0)
    return jnp.take_along_axis(candidates, best[None, :, None], axis=0)[0]


def _flips(key: jax.Array, batch: int, vertical: float, horizontal: float) -> jax.Array:
    """Returns random flips, float32[B, 2, 2]: diagonal matrices of 1 and -1."""
    flipped = jax.random.bernoulli(key, jnp.asarray([vertical, horizontal]), (batch, 2))
    return jnp.where(flipped, -1.0, 1.0)[..., None] * jnp.eye(2)


def _quarter_turns(key: jax.Array, batch: int, probability: float) -> jax.Array:
    """Returns exact rotations by 90, 180 or 270 degrees with this probability, and otherwise 0, float32[B, 2, 2]."""
    selected_key, turns_key = jax.random.split(key)
    turns = jax.random.randint(turns_key, (batch,), 1, 4)
    turns = jnp.where(jax.random.bernoulli(selected_key, probability, (batch,)), turns, 0)
    cosine, sine = jnp.asarray([1.0, 0.0, -1.0, 0.0])[turns], jnp.asarray([0.0, 1.0, 0.0, -1.0])[turns]
    return _matrix(cosine, sine, -sine, cosine)


def _inverse_rotation_and_shear(key: jax.Array, batch: int, rotate: float, shear: float) -> jax.Array:
    """Returns the inverses of random horizontal shears followed by rotations, of at most these degrees, [B, 2, 2]."""
    limits = jnp.asarray([[rotate], [shear]])
    rotation_angle, shear_angle = jnp.deg2rad(jax.random.uniform(key, (2, batch), minval=-1.0) * limits)
    one, zero = jnp.ones(batch), jnp.zeros(batch)
    cosine, sine = jnp.cos(rotation_angle), jnp.sin(rotation_angle)
    inverse_shear = _matrix(one, zero, -jnp.tan(shear_angle), one)
    return _matmul(inverse_shear, _matrix(cosine, sine, -sine, cosine))


def _displacement(key: jax.Array, batch: int, crop_size: tuple[int, int], strength: float) -> jax.Array:
    """Returns smooth random displacements, [B, h, w, 2] (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597)."""
    nodes = jax.random.normal(key, (batch, _ELASTIC_NODES, _ELASTIC_NODES, 2))
    rows, columns = map(_unit_interpolation, crop_size)
    smooth = jnp.einsum("byxd,hy,wx->bhwd", nodes, rows, columns, precision=jax.lax.Precision.HIGHEST)
    return smooth * strength * jnp.asarray(crop_size)


def _unit_interpolation(size: int) -> jax.Array:
    """Returns float32[size, 4], cubic interpolation between nodes, scaled so that each row has a norm of 1.

    Interpolated independent values of variance 1 then have a variance of 1 everywhere, near a node and between nodes.
    """
    weights = jax.image.resize(jnp.eye(_ELASTIC_NODES), (size, _ELASTIC_NODES), "cubic")
    return weights / jnp.linalg.norm(weights, axis=1, keepdims=True)


def _matrix(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    """Returns the matrices [[a, b], [c, d]], float32[B, 2, 2]."""
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def _matmul(*matrices: jax.Array) -> jax.Array:
    result = matrices[0]
    for matrix in matrices[1:]:
        result = jnp.matmul(result, matrix, precision=jax.lax.Precision.HIGHEST)
    return result
