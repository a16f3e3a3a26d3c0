"""GELU and its derivative by hand, and rounding in bfloat16."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg import ops


def test_gelu_and_its_derivative_by_hand():
    x = np.linspace(-6, 6, 25)
    below = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])
    slope = below + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    x32 = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(ops.gelu(x32), x * below, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(ops.gelu))(x32), slope, atol=1e-6)


def test_gelu_in_bfloat16_is_rounded_once():
    x = jnp.linspace(-3, 3, 101, dtype=jnp.bfloat16)
    value, slope = jax.jvp(ops.gelu, (x,), (jnp.ones_like(x),))
    exact, exact_slope = jax.jvp(ops.gelu, (x.astype(jnp.float32),), (jnp.ones(101),))
    assert value.dtype == slope.dtype == jnp.bfloat16
    np.testing.assert_array_equal(value, exact.astype(jnp.bfloat16))
    np.testing.assert_array_equal(slope, exact_slope.astype(jnp.bfloat16))
