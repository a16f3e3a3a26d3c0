"""Random changes of an image's values that leave its label unchanged, on the device.

Each takes a random key, an image float32[B, H, W, C] in 0..255 and a strength, and returns an image of the same shape,
not yet clipped to 0..255.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flaxseg.augment.rectangles import random_rectangles
from flaxseg.errors import FRACTION, NON_NEGATIVE, ArgumentError, Range, did_you_mean

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the perceived brightness (ITU-R BT.601)."""


class ColorChange(NamedTuple):
    """A row of the table COLOR.

    Attributes:
      function: (random key, image float32[B, H, W, C] in 0..255, strength) -> image, not yet clipped to 0..255.
      range: the range of the strength.
      needs_rgb: the change has no effect on images that do not have three channels.
    """

    function: Callable[[jax.Array, jax.Array, float], jax.Array]
    range: Range = NON_NEGATIVE
    needs_rgb: bool = False


def make_color_transform(**strengths: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns a function (random key, image) -> image, both float32[B, H, W, C] in 0..255.

    Args:
      **strengths: the strength of each change by its name in `COLOR`; 0 switches it off. Changes are applied in the
        order of `COLOR`, with random values of its own for each image.

    Raises:
      ArgumentError: a strength out of range, or with an unknown name.
    """
    for name, strength in strengths.items():
        if name not in COLOR:
            raise ArgumentError(
                name, strength, f"unknown color change{did_you_mean(name, COLOR)}; known are {', '.join(COLOR)}"
            )
        COLOR[name].range.check(name, strength)
    active = [(index, name) for index, name in enumerate(COLOR) if strengths.get(name)]

    def transform(key: jax.Array, image: jax.Array) -> jax.Array:
        for index, name in active:
            # The key depends on the row of the table, so that switching a change on does not affect the others' values.
            image = jnp.clip(COLOR[name].function(jax.random.fold_in(key, index), image, strengths[name]), 0, 255)
        return image

    return transform


def ineffective_changes(strengths: Mapping[str, float], *, channels: int) -> list[str]:
    """Returns the names of color changes that are switched on but have no effect on images of `channels` channels."""
    return [name for name, change in COLOR.items() if change.needs_rgb and strengths.get(name) and channels != 3]


def saturation(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Multiplies each pixel's distance from its gray value by a factor in 1 - strength .. 1 + strength; RGB only."""
    gray = _luma(image)
    return gray + (image - gray) * (1 + _uniform(key, image, strength))


def hue(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Rotates colors around the gray axis by up to `strength` of a full turn, in either direction; RGB only."""
    if image.shape[-1] != 3:
        return image
    angle = 2 * jnp.pi * _uniform(key, image, strength)
    # Rodrigues' rotation formula for the axis (1, 1, 1), along which gray values lie.
    mean = image.mean(-1, keepdims=True)
    cross = jnp.stack([image[..., 2] - image[..., 1], image[..., 0] - image[..., 2], image[..., 1] - image[..., 0]], -1)
    return mean + (image - mean) * jnp.cos(angle) + cross / jnp.sqrt(3.0) * jnp.sin(angle)


def gray(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Converts an image to grayscale with probability `strength`; RGB only."""
    selected = jax.random.bernoulli(key, strength, (image.shape[0], 1, 1, 1))
    return jnp.where(selected, _luma(image), image)


def gamma(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Raises values, relative to 255, to a log-uniform power in 1 / (1 + strength) .. 1 + strength."""
    power = jnp.exp(_uniform(key, image, 1.0) * jnp.log1p(strength))
    # The lower bound avoids the infinite slope of powers below 1 at 0.
    return 255 * jnp.maximum(image / 255, 1e-6) ** power


def contrast(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Multiplies the distance from the image's mean by a factor in 1 - strength .. 1 + strength."""
    mean = image.mean((1, 2, 3), keepdims=True)
    return mean + (image - mean) * (1 + _uniform(key, image, strength))


def brightness(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Adds one value in -255 strength .. 255 strength to the whole image."""
    return image + 255 * _uniform(key, image, strength)


def blur(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Applies a Gaussian blur with a standard deviation of up to `strength` pixels; the edges are replicated."""
    deviation = jnp.maximum(jax.random.uniform(key, (image.shape[0], 1, 1, 1), maxval=strength), 1e-3)
    radius = math.ceil(3 * strength)
    offsets = range(-radius, radius + 1)
    weights = [jnp.exp(-0.5 * (offset / deviation) ** 2) for offset in offsets]
    total = sum(weights, start=jnp.float32(0))
    for axis in (1, 2):
        padding = [(radius, radius) if i == axis else (0, 0) for i in range(4)]
        padded, size = jnp.pad(image, padding, mode="edge"), image.shape[axis]
        # A sum of shifted copies, because a convolution with one kernel per image and channel is slow.
        shifted = (jax.lax.slice_in_dim(padded, radius + o, radius + o + size, axis=axis) for o in offsets)
        image = sum((x * (w / total) for x, w in zip(shifted, weights, strict=True)), start=jnp.float32(0))
    return image


def noise(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Adds Gaussian noise to each value, with a standard deviation of up to 255 strength."""
    deviation_key, noise_key = jax.random.split(key)
    deviation = jax.random.uniform(deviation_key, (image.shape[0], 1, 1, 1), maxval=255 * strength)
    return image + deviation * jax.random.normal(noise_key, image.shape)


def dropout(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Fills a rectangle, with sides of up to `strength` of the image's, with the image's mean color.

    The label is unchanged, so that the network has to infer the hidden pixels from their surroundings (DeVries & Taylor
    2017, https://arxiv.org/abs/1708.04552).
    """
    sides_key, position_key = jax.random.split(key)
    sides = jax.random.uniform(sides_key, (2, image.shape[0]), maxval=min(strength, 1.0))
    hidden = random_rectangles(position_key, image.shape[1:3], (sides[0], sides[1]))
    return jnp.where(hidden[..., None], image.mean((1, 2), keepdims=True), image)


COLOR: dict[str, ColorChange] = {
    "saturation": ColorChange(saturation, needs_rgb=True),
    "hue": ColorChange(hue, needs_rgb=True),
    "gray": ColorChange(gray, FRACTION, needs_rgb=True),
    "gamma": ColorChange(gamma),
    "contrast": ColorChange(contrast),
    "brightness": ColorChange(brightness),
    "blur": ColorChange(blur),
    "noise": ColorChange(noise),
    "dropout": ColorChange(dropout, FRACTION),
}
"""All color changes, by name, in the order in which they are applied."""


def _uniform(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Returns one number per image, float32[B, 1, 1, 1], uniform in -strength .. strength."""
    return jax.random.uniform(key, (image.shape[0], 1, 1, 1), minval=-strength, maxval=strength)


def _luma(image: jax.Array) -> jax.Array:
    if image.shape[-1] != 3:
        return image
    return (image * jnp.asarray(LUMA_WEIGHTS)).sum(-1, keepdims=True)
