"""Batches of whole images of different sizes: their logits from tiles of one size, blended on the device.

`tiling.tiled_logits` gives the same for one image at a time, of any size, which it reads from the host.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.inference.tiling import BlendTiling, LogitsFn

Size = tuple[int, int]
"""Height and width."""


def blended_logits(
    logits_fn: LogitsFn, image: jax.Array, extent: jax.Array, *, tile: Size, tiling: BlendTiling
) -> jax.Array:
    """Returns the logits of images of different sizes, each of which depends on its own image alone.

    The network sees tiles of one size, so that it is compiled once. Where a single tile covers an image, the logits are
    those of the network unchanged.

    Args:
      logits_fn: a jitted function; called with tiles of all images of the batch at once.
      image: [B, H, W, C] with values 0..255, at least as large as a tile; the images lie in the upper left of zeros.
      extent: int32[B, 2], height and width of each image.
      tile: height and width of the tiles.
      tiling: the positions and weights of the tiles.

    Returns:
      float32[B, H, W, K]; unspecified outside the images.
    """
    canvas = (image.shape[1], image.shape[2])
    grid = tile_grid(canvas, tile=tile, tiling=tiling)
    total = None
    for index in np.ndindex(grid):
        start, is_used = tile_starts(extent, np.array(index, np.int32), tile=tile, tiling=tiling)
        logits = logits_fn(_cut(image, start, tile))
        if grid == (1, 1):
            # The canvas has the size of the tile, and averaging could only add rounding errors.
            return logits
        if total is None:
            total = _zeros(logits, canvas)
        total = _add(total, logits, start, is_used, tiling=tiling)
    assert total is not None, "a grid has at least one tile"
    return _average(total)


def tile_grid(canvas: Size, *, tile: Size, tiling: BlendTiling) -> Size:
    """Returns the number of tiles along each axis that an image of the size of the canvas needs."""
    rows, columns = (
        1 + max(0, math.ceil((length - side) / tiling.step(side))) for length, side in zip(canvas, tile, strict=True)
    )
    return rows, columns


@functools.partial(jax.jit, static_argnames=("tile", "tiling"))
def tile_starts(extent: jax.Array, index: jax.Array, *, tile: Size, tiling: BlendTiling) -> tuple[jax.Array, jax.Array]:
    """Returns where a tile begins in each image, and whether the image needs it.

    Args:
      extent: int32[B, 2], height and width of each image.
      index: int32[2], the number of the tile along each axis.
      tile: height and width of the tiles.
      tiling: the positions of the tiles.

    Returns:
      int32[B, 2], and bool[B].
    """
    steps = jnp.array([tiling.step(side) for side in tile])
    excess = jnp.maximum(extent - jnp.array(tile), 0)
    last = -(-excess // steps)
    return jnp.minimum(index * steps, excess), (index <= last).all(-1)


@functools.partial(jax.jit, static_argnums=2)
def _cut(image: jax.Array, start: jax.Array, size: Size) -> jax.Array:
    def cut(one: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(one, (begin[0], begin[1], 0), (*size, one.shape[2]))

    return jax.vmap(cut)(image, start)


@functools.partial(jax.jit, static_argnums=1)
def _zeros(logits: jax.Array, canvas: Size) -> jax.Array:
    """Returns zeros for the weighted sums of logits and, in a last channel, the sums of the weights."""
    return jnp.zeros((logits.shape[0], *canvas, logits.shape[3] + 1), jnp.float32)


@functools.partial(jax.jit, static_argnames="tiling", donate_argnums=0)
def _add(
    total: jax.Array, logits: jax.Array, start: jax.Array, is_used: jax.Array, *, tiling: BlendTiling
) -> jax.Array:
    rows, columns = (tiling.weights(side) for side in logits.shape[1:3])
    weight = np.outer(rows, columns).astype(np.float32)[..., None]

    def add(one: jax.Array, tile: jax.Array, begin: jax.Array, used: jax.Array) -> jax.Array:
        at = (begin[0], begin[1], jnp.int32(0))
        addend = jnp.concatenate([tile * weight, jnp.asarray(weight)], -1) * used
        return jax.lax.dynamic_update_slice(one, jax.lax.dynamic_slice(one, at, addend.shape) + addend, at)

    return jax.vmap(add)(total, logits, start, is_used)


@jax.jit
def _average(total: jax.Array) -> jax.Array:
    return total[..., :-1] / jnp.maximum(total[..., -1:], np.finfo(np.float32).tiny)
