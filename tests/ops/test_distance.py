"""The distance transform by hand, and compared with SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from flaxseg import ops

squared_distance = jax.jit(ops.squared_distance)


def test_by_hand():
    mask = jnp.array([[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(squared_distance(mask), [[4, 4, 1, 0], [1, 2, 2, 1], [0, 1, 4, 4]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 8), (8, 13), (40, 31)])
def test_equals_scipy_at_every_density(shape):
    random = np.random.default_rng(0)
    densities = (0.9, 0.5, 0.1, 0.02, 0.002)
    masks = np.stack([random.random(shape) < density for density in densities])
    masks[:, random.integers(shape[0]), random.integers(shape[1])] = True  # without any, SciPy does not return inf
    expected = np.stack([np.rint(ndimage.distance_transform_edt(~mask) ** 2) for mask in masks])
    distance = squared_distance(masks)
    assert distance.dtype == jnp.float32
    np.testing.assert_array_equal(distance, expected)


def test_images_without_true_pixels_are_at_infinite_distance_and_do_not_affect_others():
    masks = np.zeros((2, 3, 4, 5), bool)
    masks[1, 2, 0, 4] = True
    distance = np.asarray(squared_distance(jnp.asarray(masks)))
    assert np.isinf(distance[0]).all() and np.isinf(distance[1, :2]).all()
    np.testing.assert_array_equal(distance[1, 2], np.rint(ndimage.distance_transform_edt(~masks[1, 2]) ** 2))


def test_large_distances_are_exact():
    line = jnp.zeros((4000, 2), bool).at[0, 1].set(True)
    np.testing.assert_array_equal(squared_distance(line)[-1], [3999**2 + 1, 3999**2])


@pytest.mark.parametrize("shape", [(3, 64, 48), (3, 48, 64)])
def test_memory_is_that_of_a_few_images(shape):
    compiled = squared_distance.lower(jax.ShapeDtypeStruct(shape, bool)).compile()
    image_bytes = 4 * np.prod(shape)
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * image_bytes  # all pairs at once would take 48
