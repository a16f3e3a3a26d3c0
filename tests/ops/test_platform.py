"""Plain forms of operations compute the same, and leave no choice by platform in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from flaxseg import ops
from flaxseg.ops.platform import by_platform


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


IMAGE, DEPTHWISE, TRANSPOSED = arrays((2, 8, 12, 3), (3, 3, 1, 3), (4, 4, 3, 2))

OPERATIONS = {
    "depthwise": lambda x: ops.conv(x, DEPTHWISE, groups=3),
    "depthwise with stride": lambda x: ops.conv(x, DEPTHWISE, groups=3, stride=2, dilation=2),
    "transposed": lambda x: ops.conv_transpose(x, TRANSPOSED),
    "max pooling": ops.max_pool,
    "max pooling with padding": lambda x: ops.max_pool(x, 3, stride=2, padding=1),
    "nearest": lambda x: ops.resize_nearest(x, (16, 24)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_plain_forms_compute_the_same_without_a_choice(name):
    operation = OPERATIONS[name]
    fast, shape = jax.jit(operation)(IMAGE), jax.ShapeDtypeStruct(IMAGE.shape, jnp.float32)
    with ops.plain_forms():
        # A function of its own, because JAX remembers how it traced the other.
        jaxpr = jax.make_jaxpr(lambda x: operation(x))(shape)
        plain = jax.jit(lambda x: operation(x))(IMAGE)
    assert "platform_index" not in str(jaxpr)
    np.testing.assert_allclose(plain, fast, atol=1e-5)


def test_the_choice_returns_after_the_block():
    def operation(x):
        return by_platform(x, cpu=lambda x: x + 1, default=lambda x: x + 2)

    with pytest.raises(KeyError), ops.plain_forms():
        assert jax.jit(lambda x: operation(x))(1.0) == 3
        raise KeyError
    assert jax.jit(lambda x: operation(x))(1.0) == 2


SYMBOLIC = {
    "bilinear": lambda x: ops.resize_bilinear(x, (2 * x.shape[1], 3 * x.shape[2])),
    "corners": lambda x: ops.resize_bilinear(x, (2 * x.shape[1], 3 * x.shape[2]), align_corners=True),
    "shrinking": lambda x: ops.resize_bilinear(x, (x.shape[1] // 2, x.shape[2] // 3)),
    "nearest": lambda x: ops.resize_nearest(x, (2 * x.shape[1], 2 * x.shape[2])),
    "average pooling": lambda x: ops.adaptive_average_pool(x, 6),
    "global pooling": lambda x: ops.adaptive_average_pool(x, 1),
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_symbolic_sizes_compute_the_same(name):
    operation = SYMBOLIC[name]
    scope = export.SymbolicScope(["r >= 2", "c >= 2"])
    batch, rows, columns = export.symbolic_shape("b, r, c", scope=scope)
    traced = export.export(jax.jit(operation))(jax.ShapeDtypeStruct((batch, 4 * rows, 3 * columns, 3), jnp.float32))
    (other,) = arrays((1, 16, 9, 3))
    for image in (IMAGE, other):
        np.testing.assert_allclose(traced.call(image), operation(image), atol=1e-5)
