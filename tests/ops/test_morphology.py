"""Erosion and dilation compared with SciPy's, and their gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from flaxseg.ops import dilation, erosion

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (9, 8)])
def test_erosion_and_dilation_equal_those_of_scipy(shape):
    maps = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    eroded, dilated = jax.jit(lambda x: (erosion(x), dilation(x)))(maps)
    np.testing.assert_array_equal(
        eroded, ndimage.grey_erosion(maps, footprint=CROSS[None], cval=np.inf, mode="constant")
    )
    np.testing.assert_array_equal(dilated, ndimage.grey_dilation(maps, size=(1, 3, 3), cval=-np.inf, mode="constant"))


def test_the_selected_pixels_receive_the_gradient():
    x = jnp.array([[3.0, 1.0, 2.0], [4.0, 5.0, 6.0]])
    weights = jnp.array([[1.0, 10.0, 100.0], [1e3, 1e4, 1e5]])
    eroded, dilated = jax.jit(
        lambda: tuple(jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (erosion, dilation))
    )()
    # Erosion: 1 1 1 in the first row, and 3 1 2 in the second.
    np.testing.assert_array_equal(eroded, [[1e3, 10111, 1e5], [0, 0, 0]])
    # Dilation: 5 6 6 in both rows.
    np.testing.assert_array_equal(dilated, [[0, 0, 0], [0, 1001, 110110]])


def test_equal_pixels_share_the_gradient():
    ones = jnp.ones((3, 3))
    gradient = jax.jit(jax.grad(lambda x: dilation(x)[1, 1] * 9 + erosion(x)[0, 0] * 3))(ones)
    np.testing.assert_allclose(gradient, [[2, 2, 1], [2, 1, 1], [1, 1, 1]], rtol=1e-6)
