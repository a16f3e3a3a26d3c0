"""Test-time augmentation: the average of a network's probabilities over scaled and flipped copies of an image."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from flaxseg.errors import POSITIVE, ArgumentError, check_choice
from flaxseg.ops import resize_bilinear

FLIPS: dict[str, tuple[int, ...]] = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}
"""The flips by name, each with the axes of [B, H, W, C] that it reverses; "both" rotates by 180 degrees."""


def tta_probabilities(
    logits_fn: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    *,
    scales: Sequence[float] = (1.0,),
    flips: Sequence[str] = ("horizontal",),
) -> jax.Array:
    """Returns class probabilities, averaged over every scale, each with the unflipped image and every flip.

    The network runs `len(scales) * (1 + len(flips))` times, with one shape for each scale. Logits are flipped back and
    resized (bilinear) to the image's size before the softmax. The function is pure and can be jitted.

    Args:
      logits_fn: returns logits [B, h, w, K] of images float32[B, h, w, C], of any size that the scales result in.
      image: [B, H, W, C] with values 0..255.
      scales: factors of height and width; the image is resized bilinearly, with antialiasing where it shrinks.
      flips: names of FLIPS, each at most once.

    Returns:
      float32[B, H, W, K], at least 0, of sum 1 over classes.

    Raises:
      ArgumentError: there is no scale, a scale is not positive, or a flip is unknown or repeated.
    """
    _check(scales, flips)
    views = [(), *(FLIPS[name] for name in flips)]
    image = image.astype(jnp.float32)
    size = image.shape[1], image.shape[2]
    total: jax.Array | None = None
    for scale in scales:
        scaled = _resized(image, tuple(max(round(length * scale), 1) for length in size))
        for axes in views:
            logits = jnp.flip(logits_fn(jnp.flip(scaled, axes)), axes).astype(jnp.float32)
            probabilities = jax.nn.softmax(resize_bilinear(logits, size))
            total = probabilities if total is None else total + probabilities
    assert total is not None
    return total / (len(scales) * len(views))


def _check(scales: Sequence[float], flips: Sequence[str]) -> None:
    if not scales:
        raise ArgumentError("scales", scales, "must hold at least one factor, such as 1.0")
    for scale in scales:
        POSITIVE.check("scales", scale)
    for name in flips:
        check_choice("flips", name, FLIPS)
    if len(set(flips)) != len(flips):
        raise ArgumentError("flips", flips, "must not repeat a flip")


def _resized(image: jax.Array, size: tuple[int, ...]) -> jax.Array:
    if size == image.shape[1:3]:
        return image
    return jax.image.resize(image, (image.shape[0], *size, image.shape[3]), "bilinear", antialias=True)
