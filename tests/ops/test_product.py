"""The product with a matrix has the values and gradients of `jnp.dot`, on one device and on several."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxseg import ops
from flaxseg.models.layers.dense import Dense


def draw(shape, seed, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


# The gradient of the matrix has another form where there are more channels than features.
@pytest.mark.parametrize(("channels", "features"), [(3, 5), (5, 3)])
@pytest.mark.parametrize("plain", [False, True])
def test_values_and_gradients_are_those_of_einsum(channels, features, plain):
    x, matrix, weight = draw((2, 4, 6, channels), 0), draw((channels, features), 1), draw((2, 4, 6, features), 2)

    def weighted(x, matrix):
        return (ops.product(x, matrix) * weight).sum()

    if plain:
        with ops.plain_forms():
            for_x, for_matrix = jax.jit(jax.grad(weighted, (0, 1)))(x, matrix)
    else:
        for_x, for_matrix = jax.jit(jax.grad(weighted, (0, 1)))(x, matrix)
    x, matrix, weight = (np.asarray(each, np.float64) for each in (x, matrix, weight))
    np.testing.assert_allclose(ops.product(x, matrix), np.einsum("bhwc,co->bhwo", x, matrix), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(for_x, np.einsum("bhwo,co->bhwc", weight, matrix), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(for_matrix, np.einsum("bhwc,bhwo->co", x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [("data", None), (None, "data")], ids=["examples", "rows"])
def test_the_gradient_of_the_matrix_is_added_once_between_devices(axes):
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    x, matrix = draw((4, 4, 6, 3), 0), draw((3, 5), 1)
    gradient = jax.jit(jax.grad(lambda matrix, x: (ops.product(x, matrix) ** 2).sum()))
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))
    whole = jax.device_put(matrix, NamedSharding(mesh, PartitionSpec()))
    np.testing.assert_allclose(gradient(whole, placed), gradient(matrix, x), rtol=1e-5, atol=1e-5)
    assert gradient.lower(whole, placed).compile().as_text().count(" all-reduce(") == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dense_layers_are_those_of_flax(dtype):
    x = draw((2, 7, 3), 0, dtype)
    own, other = Dense(4, dtype=dtype), nn.Dense(4, dtype=dtype)
    variables = own.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, variables, other.init(jax.random.key(1), x))
    np.testing.assert_array_equal(own.apply(variables, x), other.apply(variables, x))

    def gradient(layer):
        return jax.grad(lambda variables: (layer.apply(variables, x).astype(jnp.float32) ** 2).sum())(variables)

    limit = 1e-5 if dtype == jnp.float32 else 2e-2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=limit, atol=limit), gradient(own), gradient(other))
