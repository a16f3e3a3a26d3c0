"""Random augmentation of images and labels together, on the device, inside the jitted step."""

import math
from collections.abc import Callable
from typing import Any

import jax

from flaxseg.augment.color import COLOR, make_color_transform
from flaxseg.augment.mixing import MIXING, mix_rectangles
from flaxseg.augment.positions import Placement
from flaxseg.augment.spatial import SPATIAL, make_spatial_transform
from flaxseg.data.types import IGNORE_LABEL, Batch
from flaxseg.errors import ArgumentError, Range, did_you_mean
from flaxseg.ops import sample_bilinear, sample_nearest

__all__ = ["STRENGTHS", "AugmentFn", "canvas_size", "is_off", "make_augment"]

STRENGTHS: dict[str, Range] = {**SPATIAL, **MIXING, **{name: change.range for name, change in COLOR.items()}}
"""The range of the strength of every augmentation, by name; 0 switches it off. `scale` is a pair, and not included."""

AugmentFn = Callable[[jax.Array, Batch], Batch]
"""A function (random key, batch) -> batch whose `image` is float32 in 0..255 and whose `label` is uint8."""


def make_augment(
    *, crop_size: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0), cutmix: float = 0.0, **strengths: float
) -> AugmentFn:
    """Returns a function that augments a batch, with random values of its own for each image.

    All spatial changes are composed, and the canvas (the image before augmentation) is resampled once: bilinear for
    images, nearest neighbor for labels. Pixels outside the canvas are 0 and ignored. Images may have any canvas size:
    at scale 1 the whole canvas fills the crop. A canvas larger than the crop (see `canvas_size`) keeps enlarged images
    sharp. A batch with `offset` and `extent` holds parts of images at their own scale (see
    `flaxseg.data.crops.cut_canvases`): scale 1 then leaves that scale as it is, and the crop is a random part.

    Args:
      crop_size: height and width of the returned images and labels, in pixels.
      scale: the range of the random scale, two numbers above 0; see `make_spatial_transform`.
      cutmix: the probability that a rectangle of another image and its label replaces a part of this one, from 0 to 1
        (Yun et al. 2019, https://arxiv.org/abs/1905.04899).
      **strengths: strengths of spatial changes, the arguments of `make_spatial_transform`, and of color changes, the
        names in `color.COLOR`; 0 switches a change off.

    Raises:
      ArgumentError: a strength out of range or with an unknown name, or a `scale` that is not a range.
    """
    for name, strength in strengths.items():
        if name not in STRENGTHS:
            raise ArgumentError(
                name,
                strength,
                f"unknown augmentation{did_you_mean(name, STRENGTHS)}; known are {', '.join(STRENGTHS)}",
            )
    MIXING["cutmix"].check("cutmix", cutmix)
    spatial = {name: strengths[name] for name in SPATIAL if name in strengths}
    spatial_transform = make_spatial_transform(crop_size=crop_size, scale=scale, **spatial)
    color_transform = make_color_transform(**{name: strengths[name] for name in strengths if name not in SPATIAL})

    def augment(key: jax.Array, batch: Batch) -> Batch:
        spatial_key, mixing_key, color_key = jax.random.split(key, 3)
        image, label = batch["image"], batch["label"]
        placement = Placement(batch["offset"], batch["extent"]) if "offset" in batch else None
        rows, columns, shrinkage = spatial_transform(spatial_key, label, placement)
        max_shrinkage = (image.shape[1] / crop_size[0] if placement is None else 1.0) / scale[0]
        image = sample_bilinear(image, rows, columns, shrinkage=shrinkage, max_shrinkage=max_shrinkage)
        label = sample_nearest(label, rows, columns, outside=IGNORE_LABEL)
        if cutmix:
            image, label = mix_rectangles(mixing_key, image, label, probability=cutmix)
        return {**batch, "image": color_transform(color_key, image), "label": label}

    return augment


def is_off(name: str, strength: Any) -> bool:
    """Returns whether an argument of `make_augment` leaves images as they are; `scale` does at (1, 1), others at 0."""
    return tuple(strength) == (1.0, 1.0) if name == "scale" else not strength


def canvas_size(crop_size: tuple[int, int], scale: tuple[float, float], *, keep: bool = False) -> tuple[int, int]:
    """Returns the height and width of the canvases that crops of a size need.

    Args:
      crop_size: height and width of the crops.
      scale: the range of the random scale.
      keep: False if images are resized to the canvas, which is then large enough that the largest scale does not blur
        them; True if they keep their scale, and the canvas has to contain what the smallest scale shows.
    """
    if keep:
        # With a tolerance, because rounding errors can make 256 / 0.8 slightly larger than 320.
        return (math.ceil(crop_size[0] / scale[0] - 1e-6), math.ceil(crop_size[1] / scale[0] - 1e-6))
    return (round(crop_size[0] * max(scale[1], 1.0)), round(crop_size[1] * max(scale[1], 1.0)))
