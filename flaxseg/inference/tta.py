"""Test-time augmentation: the average of a network's probabilities over scaled and flipped copies of an image."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flaxseg.errors import POSITIVE, ArgumentError, check_choice
from flaxseg.ops import resize_bilinear_ragged

FLIPS: dict[str, tuple[int, ...]] = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}
"""The flips by name, each with the axes of [B, H, W, C] that it reverses; "both" rotates by 180 degrees."""

LogitsFn = Callable[[jax.Array, jax.Array | None], jax.Array]
"""Returns the logits [B, h, w, K] of images [B, h, w, C], given the extent of each, as `forward.padded_logits` does."""


@dataclasses.dataclass(frozen=True)
class TTA:
    """The copies of an image that are predicted: every scale, unflipped and with every flip.

    Attributes:
      scales: factors of height and width, above 0, such as (0.75, 1.0, 1.25).
      flips: names of FLIPS, each at most once.

    Raises:
      ArgumentError: there is no scale, a scale is not positive, or a flip is unknown or repeated.
    """

    scales: tuple[float, ...] = (1.0,)
    flips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.scales:
            raise ArgumentError("scales", self.scales, "must hold at least one factor, such as 1.0")
        for scale in self.scales:
            POSITIVE.check("scales", scale)
        for name in self.flips:
            check_choice("flips", name, FLIPS)
        if len(set(self.flips)) != len(self.flips):
            raise ArgumentError("flips", self.flips, "must not repeat a flip")

    @property
    def copies(self) -> int:
        """How often the network is run."""
        return len(self.scales) * (1 + len(self.flips))

    @property
    def is_identity(self) -> bool:
        """Whether the image itself is the only copy."""
        return self.scales == (1.0,) and not self.flips


NO_TTA = TTA()
"""The image itself alone."""


def tta_probabilities(logits_fn: LogitsFn, image: jax.Array, extent: jax.Array | None, *, tta: TTA) -> jax.Array:
    """Returns class probabilities, averaged over the copies of each image.

    The network runs `tta.copies` times, with one shape for each scale. Images are resized bilinearly, with antialiasing
    where they shrink. Logits are flipped back and resized (bilinear) to the image's size before the softmax. The
    function is pure and can be jitted.

    Args:
      logits_fn: the network, which accepts every size that the scales result in.
      image: [B, H, W, C] with values 0..255.
      extent: int32[B, 2], the height and width of each image, which lies in the upper left; None if images fill the
        arrays. Where a copy is then padded further than the network pads it itself, its logits near that border can
        differ a little from those of the image alone.
      tta: the copies.

    Returns:
      float32[B, H, W, K], at least 0, of sum 1 over classes; unspecified outside the images.
    """
    image = image.astype(jnp.float32)
    size = image.shape[1], image.shape[2]
    total: jax.Array | None = None
    for scale in tta.scales:
        scaled, inner = _scaled(image, extent, scale)
        for axes in ((), *(FLIPS[name] for name in tta.flips)):
            logits = _flipped(logits_fn(_flipped(scaled, inner, axes), inner), inner, axes).astype(jnp.float32)
            probabilities = jax.nn.softmax(_resized(logits, inner, size, extent))
            total = probabilities if total is None else total + probabilities
    assert total is not None
    return total / tta.copies


def _scaled(image: jax.Array, extent: jax.Array | None, scale: float) -> tuple[jax.Array, jax.Array | None]:
    """Returns resized images, and their extents."""
    if scale == 1:
        return image, extent
    height, width = (max(round(length * scale), 1) for length in image.shape[1:3])
    if extent is None:
        return _resized(image, None, (height, width), None, antialias=True), None
    # Not above the new size: half a pixel is rounded to even there, and the same number in float32 here.
    inner = jnp.clip(jnp.round(extent * scale).astype(jnp.int32), 1, jnp.array([height, width]))
    return _resized(image, extent, (height, width), inner, antialias=True), inner


def _resized(
    x: jax.Array, old: jax.Array | None, size: tuple[int, int], new: jax.Array | None, *, antialias: bool = False
) -> jax.Array:
    """Returns images of the extents `old` at the extents `new`, in arrays of another size; None: they fill arrays."""
    if x.shape[1:3] == size:
        return x
    sizes = jnp.broadcast_to(jnp.array(size), (x.shape[0], 2)) if new is None else new
    return resize_bilinear_ragged(x, sizes, size, old_sizes=old, antialias=antialias)


def _flipped(x: jax.Array, extent: jax.Array | None, axes: tuple[int, ...]) -> jax.Array:
    """Returns arrays whose images are flipped, and lie in the upper left again."""
    x = jnp.flip(x, axes)
    if extent is None:
        return x
    for axis in axes:
        roll = functools.partial(jnp.roll, axis=axis - 1)
        x = jax.vmap(roll)(x, extent[:, axis - 1])
    return x
