"""Augmentation that mixes the images of a batch."""

import jax
import jax.numpy as jnp

from flaxseg.augment.rectangles import random_rectangles
from flaxseg.errors import FRACTION, Range

MIXING: dict[str, Range] = {"cutmix": FRACTION}
"""The range of the strength of each kind of mixing, by name."""


def mix_rectangles(
    key: jax.Array, image: jax.Array, label: jax.Array, *, probability: float
) -> tuple[jax.Array, jax.Array]:
    """Replaces a random rectangle of some images and labels by that of another image (CutMix).

    The other image is the previous one in the batch, whose order is random already. The area of the rectangle is
    uniform between none and all of the image. Yun et al. 2019, https://arxiv.org/abs/1905.04899

    Args:
      key: random key.
      image: [B, H, W, C].
      label: integer[B, H, W].
      probability: the probability that an image is changed, from 0 to 1.

    Returns:
      The mixed images and labels, of the same shapes.
    """
    selected_key, area_key, position_key = jax.random.split(key, 3)
    batch = label.shape[:1]
    side = jnp.sqrt(jax.random.uniform(area_key, batch))
    pasted = random_rectangles(position_key, label.shape[1:], (side, side))
    pasted &= jax.random.bernoulli(selected_key, probability, batch)[:, None, None]
    image = jnp.where(pasted[..., None], jnp.roll(image, 1, axis=0), image)
    return image, jnp.where(pasted, jnp.roll(label, 1, axis=0), label)
