"""Exact tiling for a network: the tiles that it needs, and a numerical test that they are exact."""

import numpy as np

from flaxseg.errors import ArgumentError
from flaxseg.inference.forward import padding_value
from flaxseg.inference.receptive_field import NotLocal, locality
from flaxseg.inference.tiling import ExactTiling, LogitsFn
from flaxseg.models.protocol import SegmentationModel, Variables

TOLERANCE = 1e-5
"""The largest difference, relative to the largest logit, that rounding may make."""


def exact_tiling(model: SegmentationModel, variables: Variables, channels: int) -> ExactTiling:
    """Returns the tiling that is exact for a network, with its halo, its stride and the value of its padding.

    Args:
      model: the network.
      variables: its variables; only their shapes are used.
      channels: the number of channels of images.

    Raises:
      NotLocal: the logits depend on the whole image or on its size; the message names the layer.
    """
    found = locality(model, variables, channels)
    return ExactTiling(found.halo, found.stride, fill=padding_value(model, channels))


def verify_exact(
    logits_fn: LogitsFn, *, tile: int | tuple[int, int], tiling: ExactTiling, channels: int, seed: int = 0
) -> float:
    """Returns `tiling_error`, which is at most TOLERANCE.

    Raises:
      NotLocal: it is larger.
      ArgumentError: the tile is too small for the halo.
    """
    error = tiling_error(logits_fn, tile=tile, tiling=tiling, channels=channels, seed=seed)
    if not error <= TOLERANCE:
        raise NotLocal(
            f"with a halo of {tiling.halo} and a stride of {tiling.stride} pixels, logits of overlapping tiles differ "
            f"by {error:.1e} of the largest logit; at most {TOLERANCE:.0e} is allowed. Use BlendTiling"
        )
    return error


def tiling_error(
    logits_fn: LogitsFn, *, tile: int | tuple[int, int], tiling: ExactTiling, channels: int, seed: int = 0
) -> float:
    """Returns the largest difference that tiling makes on random pixels, relative to the largest logit.

    Two tiles of one random image, which are apart by the stride, are compared where both should equal the whole image.
    They are of the shape that `tiled_logits` uses, so that nothing more is compiled. The error is nearly 0 for an exact
    tiling, and what a smaller halo costs otherwise.

    Args:
      logits_fn: the network.
      tile: height and width of the tiles; one number for both; at least `2 * halo + 2 * stride`.
      tiling: the tiling.
      channels: the number of channels of images.
      seed: seed of the pixels.

    Raises:
      ArgumentError: the tile is too small for the halo.
    """
    height, width = (tile, tile) if isinstance(tile, int) else tile
    halo, stride = tiling.halo, tiling.stride
    for length in (height, width):
        if length % stride or length < 2 * (halo + stride):
            problem = (
                f"must be a multiple of stride = {stride} and at least 2 * (halo + stride) = {2 * (halo + stride)}"
            )
            raise ArgumentError("tile", tile, problem)
    shape = (height + stride, width + stride, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)
    first, second = (np.asarray(logits_fn(pixels[None, at : at + height, at : at + width]))[0] for at in (0, stride))
    first = first[stride + halo : height - halo, stride + halo : width - halo]
    second = second[halo : height - halo - stride, halo : width - halo - stride]
    return float(np.abs(first - second).max() / max(np.abs(first).max(), np.finfo(np.float32).tiny))
