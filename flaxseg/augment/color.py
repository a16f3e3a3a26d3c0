"""Random changes of a picture's values that leave its label as it is, on the device."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from flaxseg.augment.spatial import random_rectangles
from flaxseg.errors import ConfigError
from flaxseg.registry import look_up

GRAY_WEIGHTS = (0.299, 0.587, 0.114)
"""Share of red, green and blue in the brightness that people see (ITU-R BT.601)."""

Change = Callable[[jax.Array, jax.Array, float], jax.Array]
"""(random key, picture float32[B, H, W, C] of 0..255, strength) -> picture, not yet cut to 0..255."""


def make_recolor(**strengths: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns a function (key, picture) -> picture, float32[B, H, W, C] of 0..255.

    Args:
      **strengths: how strong each change is, by its name in CHANGES; 0 leaves a change out. They are made in the
        order of CHANGES, and each picture of a batch draws its own values.

    Raises:
      ConfigError: an unknown name, or a strength outside of its range.
    """
    for name, strength in strengths.items():
        look_up(name, CHANGES, argument="config.augment")
        if strength < 0 or (name in PROBABILITIES and strength > 1):
            allowed = "a probability, 0 to 1" if name in PROBABILITIES else "at least 0"
            raise ConfigError(f"augment.{name} = {strength}: must be {allowed}")
    chosen = [(index, name) for index, name in enumerate(CHANGES) if strengths.get(name)]

    def recolor(key: jax.Array, image: jax.Array) -> jax.Array:
        for index, name in chosen:
            # Its own place in the table, so that switching one change on leaves what the others draw.
            image = jnp.clip(CHANGES[name](jax.random.fold_in(key, index), image, strengths[name]), 0, 255)
        return image

    return recolor


def without_effect(strengths: Mapping[str, float], *, channels: int) -> list[str]:
    """Returns the names of the changes that are switched on, and do nothing to pictures of so many channels."""
    return [name for name in _OF_COLORS if strengths.get(name) and channels != 3]


def saturation(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Multiplies each pixel's distance from its gray by 1 - s .. 1 + s; three channels only, others stay."""
    gray = _gray(image)
    return gray + (image - gray) * (1 + _draw(key, image, strength))


def hue(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Turns colors around the gray axis by up to h of a full circle either way; three channels only, others stay."""
    if image.shape[-1] != 3:
        return image
    angle = 2 * jnp.pi * _draw(key, image, strength)
    # Rodrigues' formula for the axis (1, 1, 1): what lies along it, gray, stays.
    mean = image.mean(-1, keepdims=True)
    across = jnp.stack(
        [image[..., 2] - image[..., 1], image[..., 0] - image[..., 2], image[..., 1] - image[..., 0]], -1
    )
    return mean + (image - mean) * jnp.cos(angle) + across / jnp.sqrt(3.0) * jnp.sin(angle)


def gray(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Takes the color out of a picture with this probability; three channels only, others stay."""
    chosen = jax.random.bernoulli(key, strength, (image.shape[0], 1, 1, 1))
    return jnp.where(chosen, _gray(image), image)


def gamma(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Raises values, as shares of 255, to a power of 1 / (1 + g) .. 1 + g, drawn evenly in its logarithm."""
    power = jnp.exp(_draw(key, image, 1.0) * jnp.log1p(strength))
    # Away from 0, where a power below 1 is steep without end.
    return 255 * jnp.maximum(image / 255, 1e-6) ** power


def contrast(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Multiplies the distance from the picture's mean by 1 - c .. 1 + c."""
    mean = image.mean((1, 2, 3), keepdims=True)
    return mean + (image - mean) * (1 + _draw(key, image, strength))


def brightness(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Adds one value of -255 b .. 255 b to a whole picture."""
    return image + 255 * _draw(key, image, strength)


def blur(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Blurs with a Gaussian whose standard deviation is 0 .. b pixels; edges are continued outwards."""
    deviation = jnp.maximum(jax.random.uniform(key, (image.shape[0], 1, 1, 1), maxval=strength), 1e-3)
    reach = math.ceil(3 * strength)
    offsets = range(-reach, reach + 1)
    weights = [jnp.exp(-0.5 * (offset / deviation) ** 2) for offset in offsets]
    total = sum(weights, start=jnp.float32(0))
    for axis in (1, 2):
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(4)]
        padded, size = jnp.pad(image, padding, mode="edge"), image.shape[axis]
        # Shifted copies instead of a convolution: a kernel for each picture and channel is slow as one.
        shifted = (jax.lax.slice_in_dim(padded, reach + o, reach + o + size, axis=axis) for o in offsets)
        image = sum((x * (w / total) for x, w in zip(shifted, weights, strict=True)), start=jnp.float32(0))
    return image


def noise(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Adds Gaussian noise to each value; a picture's standard deviation is 0 .. 255 n."""
    amount_key, noise_key = jax.random.split(key)
    deviation = jax.random.uniform(amount_key, (image.shape[0], 1, 1, 1), maxval=255 * strength)
    return image + deviation * jax.random.normal(noise_key, image.shape)


def dropout(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """Puts the picture's mean color into a rectangle whose sides are up to the share d of the picture's.

    The label stays, so that what is hidden has to be told from what is around it (DeVries & Taylor 2017,
    https://arxiv.org/abs/1708.04552).
    """
    sides_key, place_key = jax.random.split(key)
    sides = jax.random.uniform(sides_key, (2, image.shape[0]), maxval=min(strength, 1.0))
    hidden = random_rectangles(place_key, image.shape[1:3], (sides[0], sides[1]))
    return jnp.where(hidden[..., None], image.mean((1, 2), keepdims=True), image)


CHANGES: dict[str, Change] = {
    "saturation": saturation,
    "hue": hue,
    "gray": gray,
    "gamma": gamma,
    "contrast": contrast,
    "brightness": brightness,
    "blur": blur,
    "noise": noise,
    "dropout": dropout,
}

PROBABILITIES = ("gray", "dropout")
"""Changes whose strength is a share, at most 1."""

_OF_COLORS = ("saturation", "hue", "gray")
"""Changes of three channels; pictures of other numbers of channels stay as they are."""


def _draw(key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    return jax.random.uniform(key, (image.shape[0], 1, 1, 1), minval=-strength, maxval=strength)


def _gray(image: jax.Array) -> jax.Array:
    if image.shape[-1] != 3:
        return image
    return (image * jnp.asarray(GRAY_WEIGHTS)).sum(-1, keepdims=True)
