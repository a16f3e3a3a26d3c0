"""Random changes of picture and label together, on the device, inside the jitted step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flaxseg.augment.color import make_recolor
from flaxseg.augment.spatial import MOVES, make_geometry, random_rectangles
from flaxseg.data.types import IGNORE_LABEL, Batch
from flaxseg.errors import ConfigError
from flaxseg.ops import sample_bilinear, sample_nearest

AugmentFn = Callable[[jax.Array, Batch], Batch]
"""(random key, batch) -> batch with `image` float32 of 0..255 and `label` uint8."""


def make_augment(
    *, crop_size: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0), cutmix: float = 0.0, **strengths: float
) -> AugmentFn:
    """Returns a function that augments a batch; each picture draws its own values.

    All moves are composed, and the canvas is read once: bilinear for pictures, nearest for labels. What falls outside
    of it is 0 and ignored. Pictures may come at any canvas size: at scale 1 the whole canvas fills the window. A
    canvas larger than the window (canvas_size() tells which) keeps zoomed pictures sharp.

    Args:
      crop_size: height and width of the window that comes out.
      scale: range of the zoom; see geometry.make_geometry().
      cutmix: probability that a rectangle of another picture, with its label, covers a part of this one (Yun et al.
        2019, https://arxiv.org/abs/1905.04899).
      **strengths: of moves, by the names of geometry.MOVES, and of changes that leave the label as it is, by the
        names of color.CHANGES; each is off at 0.

    Raises:
      ConfigError: a range that is not two numbers above 0 in order, a strength outside of its range, or an unknown
        name.
    """
    moves = {name: strengths.pop(name) for name in MOVES if name in strengths}
    geometry = make_geometry(crop_size=crop_size, scale=scale, **moves)
    if not 0 <= cutmix <= 1:
        raise ConfigError(f"augment.cutmix = {cutmix}: must be in 0..1")
    recolor = make_recolor(**strengths)

    def augment(key: jax.Array, batch: Batch) -> Batch:
        geometry_key, mix_key, color_key = jax.random.split(key, 3)
        image, label = batch["image"], batch["label"]
        rows, columns, shrinkage = geometry(geometry_key, label)
        largest = image.shape[1] / (crop_size[0] * scale[0])
        image = sample_bilinear(image, rows, columns, shrinkage=shrinkage, max_shrinkage=largest)
        label = sample_nearest(label, rows, columns, outside=IGNORE_LABEL)
        if cutmix:
            image, label = _cut_and_mix(mix_key, image, label, cutmix)
        return {**batch, "image": recolor(color_key, image), "label": label}

    return augment


def canvas_size(crop_size: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int]:
    """Returns the size at which the host should keep pictures, so that the largest zoom still does not blur them."""
    return (round(crop_size[0] * max(scale[1], 1.0)), round(crop_size[1] * max(scale[1], 1.0)))


def _cut_and_mix(key: jax.Array, image: jax.Array, label: jax.Array, probability: float) -> tuple[jax.Array, jax.Array]:
    """Pastes rectangles of the next picture of the batch, whose order is random already; their area is even in 0..1."""
    chosen_key, area_key, place_key = jax.random.split(key, 3)
    batch = label.shape[:1]
    side = jnp.sqrt(jax.random.uniform(area_key, batch))
    pasted = random_rectangles(place_key, label.shape[1:], (side, side))
    pasted &= jax.random.bernoulli(chosen_key, probability, batch)[:, None, None]
    image = jnp.where(pasted[..., None], jnp.roll(image, 1, axis=0), image)
    return image, jnp.where(pasted, jnp.roll(label, 1, axis=0), label)
