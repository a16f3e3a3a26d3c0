"""Random changes of picture and label together, on the device, inside the jitted step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flaxseg.colour import make_recolour
from flaxseg.data.batch import IGNORE_LABEL, Batch
from flaxseg.errors import ConfigError

AugmentFn = Callable[[jax.Array, Batch], Batch]
"""(random key, batch) -> batch with `image` float32 of 0..255 and `label` uint8."""


def make_augment(
    *,
    crop_size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    flip: float = 0.0,
    flip_vertical: float = 0.0,
    **colour: float,
) -> AugmentFn:
    """Returns a function that augments a batch; each picture draws its own values.

    Pictures may come at any canvas size: at scale 1 the whole canvas fills the window. A canvas larger than the
    window (canvas_size() tells which) keeps zoomed pictures sharp.

    Args:
      crop_size: height and width of the window that comes out.
      scale: range of the zoom, drawn evenly in its logarithm. Above 1 a window of the zoomed picture is cut at
        random; below 1 the picture lies at random in the window and what it does not reach is 0 and ignored.
      flip: probability of mirroring left to right.
      flip_vertical: probability of mirroring upside down.
      **colour: strengths of changes that leave the label as it is, by the names of colour.CHANGES.

    Raises:
      ConfigError: a range that is not two numbers above 0 in order, a negative strength, or an unknown change.
    """
    if not 0 < scale[0] <= scale[1]:
        raise ConfigError(f"augment.scale = {scale}: must be two numbers above 0, the smaller first")
    for name, value in {"flip": flip, "flip_vertical": flip_vertical}.items():
        if value < 0:
            raise ConfigError(f"augment.{name} = {value}: must be at least 0")
    recolour = make_recolour(**colour)

    def augment(key: jax.Array, batch: Batch) -> Batch:
        geometry_key, colour_key = jax.random.split(key)
        image, label = batch["image"], batch["label"]
        rows_key, columns_key, zoom_key = jax.random.split(geometry_key, 3)
        low, high = jnp.log(jnp.asarray(scale, jnp.float32))
        zoom = jnp.exp(jax.random.uniform(zoom_key, image.shape[:1], minval=low, maxval=high))
        rows = _window(rows_key, image.shape[1], crop_size[0], zoom, flip_vertical)
        columns = _window(columns_key, image.shape[2], crop_size[1], zoom, flip)
        image = _resample(image, rows, columns, zoom, crop_size)
        return {**batch, "image": recolour(colour_key, image), "label": _take(label, rows, columns)}

    return augment


def canvas_size(crop_size: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int]:
    """Returns the size at which the host should keep pictures, so that the largest zoom still does not blur them."""
    return (round(crop_size[0] * max(scale[1], 1.0)), round(crop_size[1] * max(scale[1], 1.0)))


def _window(key: jax.Array, canvas: int, size: int, zoom: jax.Array, flip: float) -> jax.Array:
    """Returns the canvas coordinate under each pixel centre of the window along one axis, float32[B, size]."""
    place_key, flip_key = jax.random.split(key)
    # The zoomed picture is size * zoom long; where it begins is even over all places that overlap the most.
    slack = size * (1.0 - zoom)
    begin = slack * jax.random.uniform(place_key, zoom.shape)
    flipped = jax.random.bernoulli(flip_key, min(flip, 1.0), zoom.shape)
    pixel = jnp.arange(size) + 0.5
    along = jnp.where(flipped[:, None], size - pixel, pixel)
    return (along - begin[:, None]) / (size * zoom[:, None]) * canvas - 0.5


def _resample(
    image: jax.Array, rows: jax.Array, columns: jax.Array, zoom: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Resizes along rows and columns by two matrix products, which accelerators do fastest."""
    across = _weights(columns, image.shape[2], image.shape[2] / (size[1] * zoom))
    down = _weights(rows, image.shape[1], image.shape[1] / (size[0] * zoom))
    # Values up to 255 need more than the 8 bits that accelerators' fast products keep.
    precision = jax.lax.Precision.HIGHEST
    image = jnp.einsum("bij,bhjc->bhic", across, image.astype(jnp.float32), precision=precision)
    return jnp.einsum("bij,bjwc->biwc", down, image, precision=precision)


def _weights(source: jax.Array, canvas: int, shrinkage: jax.Array) -> jax.Array:
    """Returns the share of each canvas pixel in each window pixel, float32[B, size, canvas]; rows outside are 0.

    A triangle as wide as a window pixel: bilinear when enlarging, without aliasing when shrinking.
    """
    inside = (source > -0.5) & (source < canvas - 0.5)
    nearest = jnp.clip(source, 0, canvas - 1)
    reach = jnp.maximum(shrinkage, 1.0)[:, None, None]
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(nearest[..., None] - jnp.arange(canvas)) / reach)
    return weights / weights.sum(-1, keepdims=True) * inside[..., None]


def _take(label: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Returns the nearest label under each window pixel; outside of the canvas IGNORE_LABEL."""

    def index(source: jax.Array, canvas: int) -> tuple[jax.Array, jax.Array]:
        nearest = jnp.floor(source + 0.5).astype(jnp.int32)
        return jnp.clip(nearest, 0, canvas - 1), (nearest >= 0) & (nearest < canvas)

    row, row_inside = index(rows, label.shape[1])
    column, column_inside = index(columns, label.shape[2])
    taken = jnp.take_along_axis(label, row[:, :, None], axis=1)
    taken = jnp.take_along_axis(taken, column[:, None, :], axis=2)
    return jnp.where(row_inside[:, :, None] & column_inside[:, None, :], taken, jnp.uint8(IGNORE_LABEL))
