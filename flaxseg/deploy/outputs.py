"""What becomes of logits: classes, probabilities and uncertainty at each image's own size, fetched from the device."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.deploy.images import NetworkImage
from flaxseg.inference.uncertainty import apply_temperature, entropy, margin
from flaxseg.ops import resize_bilinear_ragged

UNCERTAINTIES = ("entropy", "margin", "disagreement")
"""The measures of uncertainty; see `flaxseg.inference.uncertainty`."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image, at the image's own size.

    Attributes:
      label: uint8[H, W], the most likely class of each pixel.
      maps: what else was asked for, by name: "probabilities", float32[H, W, K], and the UNCERTAINTIES, float32[H, W].
    """

    label: np.ndarray
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@functools.partial(jax.jit, static_argnames=("canvas", "num_classes", "maps"))
def finish(
    logits: jax.Array,
    row: jax.Array,
    size: jax.Array | None,
    first_row: jax.Array,
    temperature: jax.Array,
    *,
    canvas: tuple[int, int] | None,
    num_classes: int,
    maps: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Returns the classes and the maps: of all images, or of one of them, resized to its own size in the upper left.

    Images are resized one by one, because the canvas of one is smaller than that of several.

    Args:
      logits: float32[B, H, W, K], or [B, H, W, K + 1] with the disagreement.
      row: which image to resize.
      size: int32[1, 2], its own height and width; None: all images, as they are.
      first_row: the row of the result to begin at.
      temperature: what logits are divided by for probabilities.
      canvas: height and width of the result; None with `size`.
      num_classes: K.
      maps: the maps to compute; see `Prediction`.

    Returns:
      "label", uint8[B or 1, h, w], and the maps by name.
    """
    if size is not None and canvas is not None:
        one = jax.lax.dynamic_slice_in_dim(logits, row, 1)
        logits = resize_bilinear_ragged(one, size, canvas, first_row=first_row)
    own = logits[..., :num_classes]
    found = {"label": own.argmax(-1).astype(jnp.uint8)}
    if maps:
        probabilities = apply_temperature(own, temperature)
        compute = {
            "probabilities": lambda: probabilities,
            "entropy": lambda: entropy(probabilities),
            "margin": lambda: margin(probabilities),
            "disagreement": lambda: logits[..., num_classes],
        }
        found |= {name: compute[name]() for name in maps}
    return found


def joined(strips: Sequence[Any]) -> Any:
    """Returns arrays [1, H, ...] of strips of rows."""
    return jax.tree.map(lambda *parts: np.concatenate(parts, 1), *strips)


def rows_of(logits: jax.Array) -> Iterator[tuple[jax.Array, int]]:
    """Yields for each image the part of the logits on the image's own device, and its row in that part."""
    for shard in sorted(logits.addressable_shards, key=lambda shard: shard.index[0].start or 0):
        yield from ((shard.data, row) for row in range(len(shard.data)))


def fetch(computed: Sequence[Any], batch: Sequence[NetworkImage]) -> Iterator[Prediction]:
    """Yields the prediction for each image of a batch, from its row in what `finish` returned; waits for the device."""
    for (row, finished), image in zip(computed, batch, strict=True):
        height, width = image.size
        maps = {
            name: np.ascontiguousarray(values[row, :height, :width])
            for name, values in jax.device_get(finished).items()
        }
        yield Prediction(maps.pop("label"), maps)
