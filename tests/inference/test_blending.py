"""Tiles cover every pixel of every image, and blend to what the definition gives, whatever else is in the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.inference.blending import blended_logits, tile_grid, tile_starts
from flaxseg.inference.tiling import BlendTiling, tiled_logits


@pytest.mark.parametrize("extent", [(5, 9), (16, 20), (17, 30), (47, 63)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
def test_tiles_lie_where_those_of_a_single_image_do(extent: tuple[int, int], overlap: float) -> None:
    tile, tiling = (16, 20), BlendTiling(overlap)
    used = []
    for index in np.ndindex(tile_grid((64, 64), tile=tile, tiling=tiling)):
        start, is_used = tile_starts(jnp.asarray([extent]), np.array(index, np.int32), tile=tile, tiling=tiling)
        used += [tuple(start[0].tolist())] if is_used[0] else []
    rows, columns = (tiling.axis(length, side).starts for length, side in zip(extent, tile, strict=True))
    assert used == [(row, column) for row in rows for column in columns]
    assert all(np.diff(starts).max(initial=0) <= tiling.step(side) for starts, side in ((rows, 16), (columns, 20)))


def padded(images: list[np.ndarray], canvas: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    batch = np.zeros((len(images), *canvas, images[0].shape[2]), np.float32)
    for target, image in zip(batch, images, strict=True):
        target[: image.shape[0], : image.shape[1]] = image
    return jnp.asarray(batch), jnp.asarray([image.shape[:2] for image in images], jnp.int32)


@jax.jit
def pointwise(image: jax.Array) -> jax.Array:
    return jnp.concatenate([image, image[..., :1] * 2 - 7], -1)


SIZES = ((48, 56), (16, 16), (10, 40), (7, 5), (37, 16))


def test_a_network_without_context_gives_the_same_by_tiles() -> None:
    images = [np.random.default_rng(i).uniform(0, 255, (*size, 3)) for i, size in enumerate(SIZES)]
    batch, extent = padded(images, (48, 64))
    logits = blended_logits(pointwise, batch, extent, tile=(16, 16), tiling=BlendTiling())
    assert logits.shape == (5, 48, 64, 4)
    for index, (height, width) in enumerate(SIZES):
        expected = pointwise(batch[index : index + 1])[0, :height, :width]
        np.testing.assert_allclose(logits[index, :height, :width], expected, rtol=2e-5, atol=1e-3)


def test_an_image_within_one_tile_gets_the_networks_own_logits() -> None:
    batch, extent = padded([np.random.default_rng(0).uniform(0, 255, (9, 14, 2))], (16, 16))
    logits = blended_logits(pointwise, batch, extent, tile=(16, 16), tiling=BlendTiling())
    np.testing.assert_array_equal(logits, pointwise(batch))


@jax.jit
def position_dependent(image: jax.Array) -> jax.Array:
    """Differs from tile to tile, and at each place of a tile."""
    place = jnp.arange(image.shape[1])[:, None] * 3.0 + jnp.arange(image.shape[2])
    return jnp.stack([image.mean((1, 2))[:, None, None, 0] + place, image[..., 0]], -1)


def blended(image: np.ndarray, side: int) -> np.ndarray:
    """Returns what tiles of a square size give for one image, with loops in float64."""
    height, width = image.shape[:2]
    total, weights = np.zeros((height, width, 2)), np.zeros((height, width, 1))
    distance = ((np.arange(side) + 0.5) / side - 0.5) / (1 / 8)
    along = np.maximum(np.exp(-0.5 * distance**2), 1e-3)
    weight = np.outer(along, along)[..., None]

    def starts(length: int) -> list[int]:
        return [*range(0, length - side, side // 2), length - side]

    for top in starts(height):
        for left in starts(width):
            part = np.s_[top : top + side, left : left + side]
            logits = np.asarray(position_dependent(image[part][None]))[0]
            total[part] += weight * logits
            weights[part] += weight
    return total / weights


def test_overlapping_tiles_equal_a_reference_with_loops_for_any_batch() -> None:
    images = [np.random.default_rng(i).uniform(0, 255, (*size, 1)) for i, size in enumerate([(40, 29), (16, 33)])]
    batch, extent = padded(images, (48, 64))
    options = {"tile": (16, 16), "tiling": BlendTiling()}
    together = blended_logits(position_dependent, batch, extent, **options)
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        np.testing.assert_allclose(together[index, :height, :width], blended(image, 16), rtol=1e-4, atol=1e-2)
        # The canvas and the other images of the batch change nothing.
        alone, own = padded([image], (40, 33))
        single = blended_logits(position_dependent, alone, own, **options)[0, :height, :width]
        np.testing.assert_allclose(single, together[index, :height, :width], rtol=1e-6)
        streamed = tiled_logits(position_dependent, image.astype(np.float32), **options)
        np.testing.assert_allclose(single, streamed, rtol=1e-5)
