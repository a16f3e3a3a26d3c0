"""Max pooling compared with Flax's, with ties and NaN."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.ops import max_pool


@pytest.mark.parametrize(("size", "window"), [((6, 8), 2), ((7, 5), 2), ((10, 7), 3)])
def test_equals_nn_max_pool_with_ties(size, window):
    # With only three distinct values, the maximum is tied in most windows.
    x = jax.random.randint(jax.random.key(0), (2, *size, 4), 0, 3).astype(jnp.float32)
    weights = jax.random.normal(jax.random.key(1), (2, size[0] // window, size[1] // window, 4))

    def run(pool):
        value, pull_back = jax.vjp(pool, x)
        return value, pull_back(weights)[0]

    value, gradient = jax.jit(lambda: run(lambda x: max_pool(x, window)))()
    expected = jax.jit(lambda: run(lambda x: nn.max_pool(x, (window, window), (window, window))))()
    np.testing.assert_array_equal(value, expected[0])
    np.testing.assert_array_equal(gradient, expected[1])


def test_the_first_of_equal_values_receives_the_gradient():
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 2, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("position", range(4))
def test_nan_at_any_position_is_the_maximum(position):
    x = jnp.arange(8.0).reshape(1, 2, 4, 1).at[0, position // 2, position % 2, 0].set(jnp.nan)
    np.testing.assert_array_equal(max_pool(x)[0, 0, :, 0], [np.nan, 7])
