"""Where each pixel of an augmented window comes from: all random moves of a picture composed into one."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ConfigError
from flaxseg.ops import sample_nearest

_ELASTIC_NODES = 4
"""Random shifts of an elastic change lie on a grid of 4x4 over the window."""

_CANDIDATES = 10
"""Places that are tried for a window without too much of one class."""

_CLASS_SAMPLES = 32
"""The classes of a tried window are counted at 32x32 of its points."""


class Positions(NamedTuple):
    """Positions in the canvas, in its pixels, for each pixel of the window; (0, 0) is a pixel's center."""

    rows: jax.Array
    """float32[B, h, w], or [B, h, 1] where a row of the window lies in a row of the canvas."""
    columns: jax.Array
    """float32[B, h, w] or [B, 1, w]."""
    shrinkage: jax.Array
    """float32[B], how many pixels of the canvas a step in the window spans."""


GeometryFn = Callable[[jax.Array, jax.Array], Positions]
"""(random key, labels uint8[B, H, W]) -> positions in them"""


class _Moves(NamedTuple):
    """What one batch draws."""

    zoom: jax.Array
    """float32[B]"""
    back: jax.Array
    """float32[B, 2, 2], from an offset in the window to one in the upright picture, zoom apart."""
    bend: jax.Array | None
    """float32[B, h, w, 2], shifts in pixels of the window."""


MOVES = {
    "flip": 1.0,
    "flip_vertical": 1.0,
    "rotate90": 1.0,
    "rotate": math.inf,
    "shear": 89.0,
    "elastic": math.inf,
    "max_class_share": 1.0,
}
"""Strengths that make_geometry() takes, with the largest of each."""


def make_geometry(
    *,
    crop_size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    flip: float = 0.0,
    flip_vertical: float = 0.0,
    rotate90: float = 0.0,
    rotate: float = 0.0,
    shear: float = 0.0,
    elastic: float = 0.0,
    max_class_share: float = 0.0,
) -> GeometryFn:
    """Returns a function that draws a window of each picture, and where its pixels come from.

    Args:
      crop_size: height and width of the window.
      scale: range of the zoom, drawn evenly in its logarithm. At 1 the whole canvas fills the window; above 1 a
        window of the zoomed picture is cut at random; below 1 the picture lies at random in the window.
      flip: probability of mirroring left to right.
      flip_vertical: probability of mirroring upside down.
      rotate90: probability of a turn by 90, 180 or 270 degrees. A window that is not square keeps its shape, so what
        a quarter turn carries beyond it is lost.
      rotate: degrees by which a picture turns about its center at most, either way.
      shear: degrees by which its columns lean at most, either way; up to 89.
      elastic: standard deviation of smooth random shifts, as a share of the window's sides; up to 0.05 is usual,
        from about 0.1 on pictures fold over.
      max_class_share: the largest share that one class should have of a window, above 0 and up to 1; 0: any. Up to
        ten places are tried, which helps only where the zoom leaves a choice.

    Raises:
      ConfigError: a range that is not two numbers above 0 in order, or a strength outside of 0 and its largest.
    """
    if not 0 < scale[0] <= scale[1]:
        raise ConfigError(f"augment.scale = {scale}: must be two numbers above 0, the smaller first")
    strengths = (flip, flip_vertical, rotate90, rotate, shear, elastic, max_class_share)
    for (name, largest), value in zip(MOVES.items(), strengths, strict=True):
        if not 0 <= value <= largest:
            allowed = "at least 0" if largest == math.inf else f"in 0..{largest:g}"
            raise ConfigError(f"augment.{name} = {value}: must be {allowed}")
    # Rows of the window then lie in rows of the canvas, which is much cheaper to read.
    is_upright = not (rotate90 or rotate or shear)

    def geometry(key: jax.Array, label: jax.Array) -> Positions:
        batch, canvas = label.shape[0], label.shape[1:3]
        place_key, zoom_key, flip_key, turn_key, angle_key, bend_key = jax.random.split(key, 6)
        low, high = jnp.log(jnp.asarray(scale, jnp.float32))
        zoom = jnp.exp(jax.random.uniform(zoom_key, (batch,), minval=low, maxval=high))
        back = _mirrored(flip_key, batch, flip_vertical, flip)
        if not is_upright:
            back = _product(back, _turned(turn_key, batch, rotate90), _slanted(angle_key, batch, rotate, shear))
        bend = _bend(bend_key, batch, crop_size, elastic) if elastic else None
        moves = _Moves(zoom, back, bend)
        place = jax.random.uniform(place_key, (batch, 2))
        if max_class_share:
            place = _place(place_key, label, moves, crop_size, max_class_share)
        pixels = tuple(jnp.arange(size) + 0.5 for size in crop_size)
        rows, columns = _positions(moves, place, pixels, crop_size, canvas, is_upright)
        return Positions(rows, columns, canvas[0] / (crop_size[0] * zoom))

    return geometry


def random_rectangles(key: jax.Array, size: tuple[int, ...], sides: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns bool[B, *size], true in one rectangle of each picture, which lies inside of it at an even place.

    Args:
      key: random key.
      size: height and width of the pictures.
      sides: height and width of the rectangles, float32[B], as shares of the picture's.
    """

    def inside(key: jax.Array, size: int, share: jax.Array) -> jax.Array:
        length = size * share[:, None]
        begin = (size - length) * jax.random.uniform(key, length.shape)
        pixel = jnp.arange(size) + 0.5
        return (pixel >= begin) & (pixel < begin + length)

    rows, columns = (inside(*given) for given in zip(jax.random.split(key), size, sides, strict=True))
    return rows[:, :, None] & columns[:, None, :]


def _positions(
    moves: _Moves,
    place: jax.Array,
    pixels: tuple[jax.Array, ...],
    window: tuple[int, int],
    canvas: tuple[int, ...],
    is_upright: bool,
) -> tuple[jax.Array, jax.Array]:
    """Canvas coordinates under these pixel centers of the window; `place` float32[B, 2] of 0..1 says where it is cut.

    The zoomed picture is window * zoom large. Its center lies where, over all places, window and picture overlap most.
    """
    zoom = moves.zoom[:, None]
    center = jnp.asarray(window) * ((1.0 - zoom) * place + 0.5 * zoom)
    down = pixels[0][:, None] - center[:, 0, None, None]
    across = pixels[1] - center[:, 1, None, None]
    if moves.bend is not None:
        down, across = down + moves.bend[..., 0], across + moves.bend[..., 1]

    def along(axis: int) -> jax.Array:
        back = moves.back[:, axis, :, None, None]
        offset = (down, across)[axis] * back[:, axis] if is_upright else down * back[:, 0] + across * back[:, 1]
        return (offset / zoom[..., None] + window[axis] / 2) * (canvas[axis] / window[axis]) - 0.5

    return along(0), along(1)


def _place(key: jax.Array, label: jax.Array, moves: _Moves, window: tuple[int, int], max_share: float) -> jax.Array:
    """Returns float32[B, 2], the first of ten random places whose window has at most `max_share` of one class.

    Where none has, that with the smallest share. Ignored pixels do not count; elastic shifts are left out.
    """
    places = jax.random.uniform(key, (_CANDIDATES, label.shape[0], 2))
    points = tuple((jnp.arange(_CLASS_SAMPLES) + 0.5) * (size / _CLASS_SAMPLES) for size in window)
    moves = moves._replace(bend=None)

    def largest_share(place: jax.Array) -> jax.Array:
        rows, columns = _positions(moves, place, points, window, label.shape[1:3], False)
        seen = sample_nearest(label, rows, columns, outside=IGNORE_LABEL).reshape(label.shape[0], -1)
        counts = jax.vmap(lambda values: jnp.bincount(values, length=256))(seen)[:, :IGNORE_LABEL]
        total = counts.sum(-1)
        return jnp.where(total > 0, counts.max(-1) / jnp.maximum(total, 1), 1.0)

    shares = jax.vmap(largest_share)(places)
    best = jnp.argmin(jnp.where(shares <= max_share, 0.0, shares), axis=0)
    return jnp.take_along_axis(places, best[None, :, None], axis=0)[0]


def _mirrored(key: jax.Array, batch: int, vertical: float, horizontal: float) -> jax.Array:
    """float32[B, 2, 2] with 1 or -1 on the diagonal."""
    flipped = jax.random.bernoulli(key, jnp.asarray([vertical, horizontal]), (batch, 2))
    return jnp.where(flipped, -1.0, 1.0)[..., None] * jnp.eye(2)


def _turned(key: jax.Array, batch: int, probability: float) -> jax.Array:
    """float32[B, 2, 2]: turns by 90, 180 or 270 degrees with this probability, exactly."""
    chosen_key, times_key = jax.random.split(key)
    times = jax.random.randint(times_key, (batch,), 1, 4)
    times = jnp.where(jax.random.bernoulli(chosen_key, probability, (batch,)), times, 0)
    cosine, sine = jnp.asarray([1.0, 0.0, -1.0, 0.0])[times], jnp.asarray([0.0, 1.0, 0.0, -1.0])[times]
    return _matrix(cosine, sine, -sine, cosine)


def _slanted(key: jax.Array, batch: int, rotate: float, shear: float) -> jax.Array:
    """float32[B, 2, 2]: back from a shear of rows against each other, then a turn, each up to so many degrees."""
    angle, slant = jnp.deg2rad(jax.random.uniform(key, (2, batch), minval=-1.0) * jnp.asarray([[rotate], [shear]]))
    one, zero = jnp.ones(batch), jnp.zeros(batch)
    unturned = _matrix(jnp.cos(angle), jnp.sin(angle), -jnp.sin(angle), jnp.cos(angle))
    return _product(_matrix(one, zero, -jnp.tan(slant), one), unturned)


def _bend(key: jax.Array, batch: int, window: tuple[int, int], strength: float) -> jax.Array:
    """float32[B, h, w, 2], smooth random shifts (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597)."""
    nodes = jax.random.normal(key, (batch, _ELASTIC_NODES, _ELASTIC_NODES, 2))
    return jax.image.resize(nodes, (batch, *window, 2), "cubic") * strength * jnp.asarray(window)


def _matrix(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def _product(*matrices: jax.Array) -> jax.Array:
    result = matrices[0]
    for matrix in matrices[1:]:
        result = jnp.matmul(result, matrix, precision=jax.lax.Precision.HIGHEST)
    return result
