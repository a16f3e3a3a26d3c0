"""The tiles that large images are predicted in: their size, and how they overlap."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import ArgumentError, check_choice, check_integer
from flaxseg.inference.exactness import exact_tiling, tiling_error, verify_exact
from flaxseg.inference.tiling import BLEND, ExactTiling, LogitsFn, Tiling

TILINGS = ("blend", "exact")
"""The names of tilings."""

_MEMORY_SHARE = 0.5
"""The share of the free memory that a batch of exact tiles may take."""

_LARGEST_TILE = 4096
"""Larger exact tiles would spare almost nothing."""


@dataclasses.dataclass(frozen=True)
class Tiles:
    """How large images are predicted.

    Attributes:
      size: height and width of the tiles.
      tiling: how they overlap.
      note: what a user should know about them; "" for nothing.
    """

    size: tuple[int, int]
    tiling: Tiling
    note: str = ""


def make_tiles(
    members: Sequence[SavedModel],
    logits_fn: LogitsFn,
    compile: Callable[[jax.ShapeDtypeStruct], Any],
    *,
    tile: int | tuple[int, int] | None,
    tiling: str | Tiling,
    halo: int | None,
    batch_size: int,
) -> Tiles:
    """Returns the tiles of networks that predict together.

    Exact tiles are verified on random pixels.

    Args:
      members: the networks.
      logits_fn: the logits of images [B, h, w, C].
      compile: compiles these for a shape; asked how much memory it takes.
      tile: height and width; one number for both. None takes the size of the images that the networks were trained on,
        or, for exact tiles, the largest that the memory allows.
      tiling: a name of TILINGS, or a tiling.
      halo: for "exact", the pixels from a tile's border that are dropped; None takes as many as the networks need.
        Fewer are faster and no longer exact.
      batch_size: the number of tiles that are computed at once.

    Raises:
      ArgumentError: a tile for networks that take images of one size; a halo for another tiling; a tile too small.
      NotLocal: no tiles are exact for a network; the message names the layer.
    """
    description = members[0].description
    if description.resize != "keep":
        for name, value in (("tile", tile), ("halo", halo), *([("tiling", tiling)] if tiling != "blend" else [])):
            if value is not None:
                raise ArgumentError(
                    name,
                    value,
                    f"this network was trained on images that were resized to {description.image_size}, and predicts "
                    "them whole; leave it out",
                )
    if isinstance(tiling, str):
        check_choice("tiling", tiling, TILINGS)
    if tiling == "exact":
        return _exact_tiles(members, logits_fn, compile, tile=tile, halo=halo, batch_size=batch_size)
    if halo is not None:
        raise ArgumentError("halo", halo, "only exact tiles have a halo; leave it out, or use tiling = 'exact'")
    size = description.image_size if tile is None else _pair(tile)
    return Tiles(size, BLEND if isinstance(tiling, str) else tiling)


def _exact_tiles(
    members: Sequence[SavedModel],
    logits_fn: LogitsFn,
    compile: Callable[[jax.ShapeDtypeStruct], Any],
    *,
    tile: int | tuple[int, int] | None,
    halo: int | None,
    batch_size: int,
) -> Tiles:
    channels = members[0].description.channels
    exact = _common([exact_tiling(each.model, each.variables, channels) for each in members])
    used = exact if halo is None else dataclasses.replace(exact, halo=halo)
    smallest = 2 * (used.halo + used.stride)
    if used.halo < exact.halo:
        error = tiling_error(logits_fn, tile=smallest, tiling=used, channels=channels)
        note = f"a halo of {used.halo} instead of {exact.halo} pixels changes logits by {error:.1e} of the largest"
    else:
        verify_exact(logits_fn, tile=smallest, tiling=used, channels=channels)
        note = f"the halo is {used.halo} pixels, so that the result is that of the whole image"
    if tile is None:
        program = compile(jax.ShapeDtypeStruct((batch_size, smallest, smallest, channels), jnp.float32))
        side = _largest_side(program.memory_analysis(), smallest, used.stride)
        size = (side, side)
    else:
        size = _checked_size(tile, used)
    inner = [length - 2 * used.halo for length in size]
    factor = math.prod(size) / math.prod(inner)
    note = f"images larger than {size[0]}x{size[1]} are predicted in exact tiles of this size; {note}"
    return Tiles(size, used, f"{note}, and up to {factor:.2f} pixels are computed for each")


def _checked_size(tile: int | tuple[int, int], tiling: ExactTiling) -> tuple[int, int]:
    size, least = _pair(tile), 2 * tiling.halo + tiling.stride
    for length in size:
        if length < least or length % tiling.stride:
            raise ArgumentError(
                "tile",
                tile,
                f"must be a multiple of the stride, {tiling.stride}, and at least {least} for a halo of {tiling.halo}; "
                "use larger tiles, or a smaller halo, which is no longer exact",
            )
    return size


def _largest_side(memory: Any, smallest: int, stride: int) -> int:
    """Returns the side of the largest tile that the memory allows, given what the smallest one takes."""
    needed = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes
    side = math.isqrt(int(smallest**2 * _MEMORY_SHARE * _free_memory() / max(needed, 1)))
    return max(min(side, _LARGEST_TILE) // stride * stride, smallest)


def _free_memory() -> int:
    """Returns the free memory of the device in bytes."""
    device = jax.local_devices()[0]
    found = device.memory_stats() if device.platform != "cpu" else None
    return found["bytes_limit"] - found["bytes_in_use"] if found else psutil.virtual_memory().available


def _common(tilings: Sequence[ExactTiling]) -> ExactTiling:
    """Returns a tiling that is exact for several networks."""
    stride = math.lcm(*(each.stride for each in tilings))
    halo = -(-max(each.halo for each in tilings) // stride) * stride
    fills = {each.fill for each in tilings}
    return ExactTiling(halo, stride, fills.pop() if len(fills) == 1 else None)


def _pair(tile: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (tile, tile) if isinstance(tile, int) else tile
    check_integer("tile", height, 1)
    check_integer("tile", width, 1)
    return height, width
