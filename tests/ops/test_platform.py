"""Plain forms of operations compute the same, and leave no choice by platform in the program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from flaxseg import create_train_state, ops, plain_unet, train_step, weighted_sum
from flaxseg.ops.platform import by_platform, compiler_options


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


def test_the_compiler_options_for_the_cpu_take_less_memory_and_change_no_value():
    model, tx = plain_unet(num_classes=3, width=8, depth=2), optax.sgd(0.1)
    image = jax.random.randint(jax.random.key(0), (2, 64, 64, 3), 0, 256).astype(jnp.uint8)
    batch = {"image": image, "label": image[..., 0] % 3}
    parts = {"model": model, "tx": tx}
    state = jax.jit(functools.partial(create_train_state, **parts))(jax.random.key(0), image)
    step = jax.jit(functools.partial(train_step, loss_fn=weighted_sum({"cross_entropy": 1.0}), **parts))
    lowered = step.lower(state, batch, jax.random.key(1))
    default, less = lowered.compile(), lowered.compile(compiler_options=compiler_options())
    memory = [program.memory_analysis().temp_size_in_bytes for program in (default, less)]
    assert memory[1] < 0.8 * memory[0]
    states = [program(state, batch, jax.random.key(1))[0] for program in (default, less)]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_other_platforms_have_no_compiler_options():
    assert compiler_options(platform="gpu") == compiler_options(remat=True, platform="tpu") == {}
    assert compiler_options(platform="cpu") == compiler_options()
    assert list(compiler_options(remat=True)) == ["xla_disable_hlo_passes"]
    assert compiler_options(runs_once=True, remat=True) == {"xla_backend_optimization_level": "1"}
