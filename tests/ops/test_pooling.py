"""Max pooling compared with Flax's, with ties and NaN, and average pooling by hand."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.ops import average_pool, max_pool, plain_forms


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


def test_padding_on_one_side_shifts_the_windows_by_hand():
    x = -jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    tall = jnp.tile(x, (1, 4, 1, 1))
    np.testing.assert_array_equal(max_pool(tall, 3, stride=2, padding=(0, 1))[0, 0, :, 0], [-1, -3])
    np.testing.assert_array_equal(max_pool(tall, 3, stride=2, padding=1)[0, 0, :, 0], [-1, -2])


@pytest.mark.parametrize("plain", [False, True])
def test_average_pooling_by_hand(plain):
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    context = plain_forms() if plain else contextlib.nullcontext()
    with context:
        np.testing.assert_allclose(average_pool(x)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
        # Zeros outside the image are part of the mean.
        np.testing.assert_allclose(average_pool(x, stride=1, padding=(0, 1))[0, 3, :, 0], [6.25, 6.75, 7.25, 3.75])
        np.testing.assert_allclose(average_pool(x, 3, stride=2, padding=1)[0, 0, :, 0], [10 / 9, 24 / 9])
