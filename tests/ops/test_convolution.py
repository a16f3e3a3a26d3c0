"""Convolution compared with Flax's, its forms on each platform, exporting, and sharding."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flaxseg.errors import ArgumentError
from flaxseg.ops import conv

BY_ROWS = "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]"
"""How a convolution with swapped batch and channel axes appears in the lowered text."""


def normal(seed, *shape, dtype=jnp.float32):
    # NumPy's numbers, because JAX would compile a program for each shape.
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def value_and_grads(function, *arguments):
    """Returns the function's value, and the gradients of all arguments for random weights of the output."""

    def run(*arguments):
        value, pull_back = jax.vjp(function, *arguments)
        return value, pull_back(normal(99, *value.shape, dtype=value.dtype))

    return jax.jit(run)(*arguments)


def assert_close(actual, expected, tolerance=1e-5):
    """Checks that arrays are equal to within `tolerance` of their largest value."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max())


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((33, 6), 3, {}),
        pytest.param((37, 7), (4, 4), {}, marks=pytest.mark.long),
        ((8, 9), 3, {}),
        pytest.param((33, 5), (1, 1), {}, marks=pytest.mark.long),
        ((33, 5), (1, 1), {"stride": 2}),
        pytest.param((67, 8), (3, 3), {"stride": 2}, marks=pytest.mark.long),
        ((66, 9), (7, 4), {"stride": (2, 3), "padding": ((3, 2), (1, 2))}),
        pytest.param((40, 9), (3, 3), {"dilation": (6, 2)}, marks=pytest.mark.long),
        ((70, 9), (3, 2), {"dilation": 2, "stride": 2, "padding": "VALID"}),
        ((36, 4), (3, 3), {"groups": 2}),
        ((20, 5), (3, 3), {"padding": ((20, 9), (7, 0))}),
        pytest.param((5, 40), (3, 3), {"dilation": 12}, marks=pytest.mark.long),
        ((5, 6), (3, 4), {"dilation": (5, 9), "groups": 2}),
        ((33, 3), (5, 3), {"dilation": (12, 4), "stride": (2, 1)}),
        ((34, 3), (3, 3), {"dilation": 4, "padding": ((1, 7), (9, 1))}),
    ],
)
def test_value_and_gradients_equal_those_of_nn_conv(size, kernel, options):
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    groups = options.get("groups", 1)
    x, weights = normal(0, 2, *size, 4), normal(1, kh, kw, 4 // groups, 6)
    layer = nn.Conv(
        6,
        (kh, kw),
        strides=options.get("stride", 1),
        kernel_dilation=options.get("dilation", 1),
        feature_group_count=groups,
        padding=options.get("padding", "SAME"),
        use_bias=False,
    )
    expected = value_and_grads(lambda x, kernel: layer.apply({"params": {"kernel": kernel}}, x), x, weights)
    assert_close(value_and_grads(functools.partial(conv, **options), x, weights), expected)


def test_several_inputs_equal_their_concatenation():
    parts, kernel = [normal(i, 2, 34, 5, channels) for i, channels in enumerate((2, 1, 3))], normal(9, 3, 3, 6, 4)
    expected = value_and_grads(lambda parts, kernel: conv(jnp.concatenate(parts, -1), kernel), parts, kernel)
    assert_close(value_and_grads(conv, parts, kernel), expected)
    assert "concatenate" not in jax.jit(conv).lower(parts, kernel).as_text()


def test_an_input_of_one_pixel_is_broadcast():
    def repeated(x, pixel, kernel):
        return conv([jnp.broadcast_to(pixel, (2, 6, 5, 2)), x], kernel)

    arguments = normal(0, 2, 6, 5, 3), normal(1, 2, 1, 1, 2), normal(9, 1, 1, 5, 4)
    once = value_and_grads(lambda x, pixel, kernel: conv([pixel, x], kernel), *arguments)
    assert_close(once, value_and_grads(repeated, *arguments))


@pytest.mark.parametrize(("dilation", "remaining"), [(10, "3x3x2x4"), (11, "2x2x2x4"), ((10, 12), "3x1x2x4")])
def test_taps_that_read_only_padding_are_removed(dilation, remaining):
    lowered = jax.jit(functools.partial(conv, stride=2, padding="SYMMETRIC", dilation=dilation)).lower(
        normal(0, 1, 12, 12, 2), normal(1, 3, 3, 2, 4)
    )
    convolutions = [line for line in lowered.as_text().splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 1 and f"tensor<{remaining}xf32>" in convolutions[0]


def test_bfloat16_rounds_only_the_result():
    x, kernel = normal(0, 2, 40, 8, 4, dtype=jnp.bfloat16), normal(1, 3, 3, 4, 6, dtype=jnp.bfloat16)
    rounded = value_and_grads(conv, x, kernel)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(rounded))
    exact = value_and_grads(conv, x.astype(jnp.float32), kernel.astype(jnp.float32))
    # The random weights of the output are rounded too, hence slightly more than one rounding of 2**-9.
    assert_close(jax.tree.map(lambda a: a.astype(jnp.float32), rounded), exact, tolerance=2**-7)


def kernel_gradient(x, kernel, **options):
    return jax.grad(lambda kernel: jnp.sum(conv(x, kernel, **options) ** 2))(kernel)


@pytest.mark.parametrize(
    ("size", "platform", "by_rows"), [(64, "cpu", True), (64, "cuda", False), (64, "tpu", False), (16, "cpu", False)]
)
def test_the_kernel_gradient_is_computed_by_rows_only_on_the_cpu_and_for_large_images(size, platform, by_rows):
    traced = jax.jit(kernel_gradient).trace(normal(0, 2, size, 8, 3), normal(1, 3, 3, 3, 4))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == (9 if by_rows else 2)
    assert text.count(BY_ROWS) == (8 if by_rows else text.count("stablehlo.convolution") - 1)


def test_vmap_and_checkpoint():
    x, kernels = normal(0, 2, 40, 6, 3), normal(1, 2, 3, 3, 3, 4)
    separate = jnp.stack([jax.jit(kernel_gradient)(x, kernel) for kernel in kernels])
    assert_close(jax.jit(jax.vmap(kernel_gradient, (None, 0)))(x, kernels), separate)
    checkpointed = jax.checkpoint(lambda kernel: jnp.sum(conv(x, kernel) ** 2))
    assert_close(jax.jit(jax.grad(checkpointed))(kernels[0]), separate[0])


def test_exports_for_several_platforms_with_a_symbolic_batch():
    (batch,) = jax.export.symbolic_shape("batch")
    x, kernel = jax.ShapeDtypeStruct((batch, 40, 6, 3), jnp.float32), normal(1, 3, 3, 3, 4)
    exported = jax.export.export(jax.jit(conv), platforms=("cpu", "cuda"))(x, kernel)
    images = normal(0, 3, 40, 6, 3)
    assert_close(exported.call(images, kernel), conv(images, kernel))
    fixed = jax.export.export(jax.jit(kernel_gradient), platforms=("cpu", "cuda"))(images, kernel)
    assert_close(fixed.call(images, kernel), kernel_gradient(images, kernel))


def test_gradients_of_a_sharded_batch_equal_those_of_one_device():
    axes = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((4, 2), ("data", "spatial"), axis_types=axes)
    x, kernel = normal(0, 4, 36, 6, 3), normal(1, 3, 3, 3, 4)
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data", "spatial")))
    replicated = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
    assert_close(jax.jit(kernel_gradient)(sharded, replicated), jax.jit(kernel_gradient)(x, kernel))


def test_channels_that_do_not_fit_are_named():
    with pytest.raises(
        ArgumentError, match=r"^kernel.shape = \(3, 3, 8, 2\): does not fit inputs of \[3, 4\] channels"
    ):
        conv([jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 4))], jnp.zeros((3, 3, 8, 2)))
    with pytest.raises(ArgumentError, match="^groups = 2: must be 1 for 2 inputs"):
        conv([jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 4, 4, 2))], jnp.zeros((3, 3, 2, 2)), groups=2)
