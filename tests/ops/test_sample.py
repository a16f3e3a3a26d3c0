"""Sampling by hand and compared with a reference, and antialiasing of shrunk images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.ndimage import map_coordinates

from flaxseg.ops import sample_bilinear, sample_nearest


def positions(size, shape=(2, 9, 11), seed=0, margin=0.0):
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.uniform(-margin, s - 1 + margin, shape), jnp.float32) for s in size]


@pytest.mark.parametrize(
    ("dtype", "channels"), [("uint8", 1), ("uint8", 3), ("uint8", 4), ("uint8", 6), ("float32", 2)]
)
def test_bilinear_equals_a_reference(dtype, channels):
    image = np.random.default_rng(1).integers(0, 256, (2, 7, 8, channels)).astype(dtype)
    rows, columns = positions((7, 8))
    out = jax.jit(sample_bilinear)(image, rows, columns)
    assert out.shape == (2, 9, 11, channels) and out.dtype == jnp.float32
    for b, c in np.ndindex(2, channels):
        wanted = map_coordinates(jnp.asarray(image[b, ..., c], jnp.float32), [rows[b], columns[b]], order=1)
        np.testing.assert_allclose(out[b, ..., c], wanted, atol=1e-3)


def test_separable_positions_equal_full_ones():
    image = np.random.default_rng(2).integers(0, 256, (2, 7, 8, 3), np.uint8)
    rows, columns = positions((7, 8), (2, 9, 1), margin=2)[0], positions((7, 8), (2, 1, 5), margin=2)[1]
    full = [jnp.broadcast_to(at, (2, 9, 5)) for at in (rows, columns)]

    @jax.jit
    def sample(*at):
        return sample_bilinear(image, *at), sample_nearest(image[..., 0], *at, outside=7)

    for short, long in zip(sample(rows, columns), sample(*full), strict=True):
        np.testing.assert_allclose(short, long, atol=1e-4)


def test_nearest_and_outside_by_hand():
    label = jnp.asarray([[[1, 2], [3, 4]]], jnp.uint8)
    rows = jnp.asarray([-0.6, -0.5, 0.4, 0.5, 1.49, 1.5]).reshape(1, 6, 1)
    columns = jnp.zeros((1, 1, 1))
    nearest = jax.jit(functools.partial(sample_nearest, outside=255))(label, rows, columns)
    assert nearest[0, :, 0].tolist() == [255, 1, 1, 3, 3, 255]
    value = jax.jit(sample_bilinear)(label[..., None], rows, columns)[0, :, 0, 0]
    np.testing.assert_allclose(value, [0, 1, 1.8, 2, 3, 0], atol=1e-6)


def test_an_image_of_one_pixel():
    out = jax.jit(sample_bilinear)(jnp.full((1, 1, 1, 3), 80, jnp.uint8), *positions((1, 1), (1, 4, 4), margin=0.4))
    np.testing.assert_array_equal(out, jnp.full((1, 4, 4, 3), 80.0))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_shrunk_texture_becomes_its_mean(dtype):
    rows, columns = np.indices((31, 32))
    board = np.repeat((255 * ((rows + columns) % 2))[None, ..., None], 2, 0).astype(dtype)
    shrinkage = jnp.asarray([1.0, 4.0])
    steps = [jnp.arange(7) * 4.0 + 1.5, jnp.arange(8) * 4.0 + 1.5]
    at = [jnp.tile(steps[0][None, :, None], (2, 1, 1)), jnp.tile(steps[1][None, None], (2, 1, 1))]
    sample = jax.jit(functools.partial(sample_bilinear, max_shrinkage=4.0))
    out = sample(board, *at, shrinkage=shrinkage)
    np.testing.assert_allclose(out[1], 127.5, atol=0.51)
    ramp = np.broadcast_to(8.0 * columns[None, ..., None], (2, 31, 32, 1)).astype(dtype)
    out = sample(ramp, *at, shrinkage=shrinkage)
    # The mean of a ramp is its middle, so that every level of the pyramid has the same value at a position.
    np.testing.assert_allclose(out[1, :, 1:-1, 0], out[0, :, 1:-1, 0], atol=1.01)
    np.testing.assert_allclose(out[0, 0, :, 0], 8 * steps[1], atol=1e-3)
