"""Transposed convolution compared with Flax's, its forms on each platform, and exporting."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.ops import conv_transpose


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def results(function, x, kernel):
    """Returns the function's value, and the gradients of both arguments for random weights of the output."""
    value, pull_back = jax.vjp(function, x, kernel)
    return value, pull_back(normal(99, *value.shape))


def assert_close(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * np.abs(e).max())


@pytest.mark.parametrize(
    ("window", "stride"),
    [
        ((2, 2), 2),
        ((4, 4), 2),
        ((5, 6), 2),
        ((3, 3), 1),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (((3, 3), 3), ((3, 3), 2), ((2, 3), 4), ((16, 16), 8))
        ),
    ],
)
def test_value_and_gradients_equal_those_of_nn_conv_transpose(window, stride):
    x, kernel = normal(0, 2, 5, 4, 3), normal(1, *window, 3, 6)
    layer = nn.ConvTranspose(6, window, strides=(stride, stride), use_bias=False)
    expected = functools.partial(results, lambda x, kernel: layer.apply({"params": {"kernel": kernel}}, x))
    ours = functools.partial(results, functools.partial(conv_transpose, stride=stride))
    assert_close(jax.jit(ours)(x, kernel), jax.jit(expected)(x, kernel))


@pytest.mark.parametrize(
    ("window", "platform", "dilated"), [(3, "cpu", 1), (4, "cpu", 0), (4, "cuda", 2), (2, "cpu", 0), (2, "cuda", 0)]
)
def test_overlapping_taps_are_computed_by_phases_only_on_the_cpu(window, platform, dilated):
    """`dilated` is the number of convolutions of dilated inputs, in the value and the gradients."""
    run = jax.jit(functools.partial(results, conv_transpose))
    text = run.trace(normal(0, 2, 5, 4, 3), normal(1, window, window, 3, 6)).lower(lowering_platforms=(platform,))
    lines = [line for line in text.as_text().splitlines() if "stablehlo.convolution" in line]
    assert sum("lhs_dilate = [2, 2]" in line for line in lines) == dilated


def test_exports_for_several_platforms_with_symbolic_sizes():
    sizes = jax.export.symbolic_shape("batch, height, width")
    x, kernel = normal(0, 2, 5, 4, 3), normal(1, 4, 4, 3, 6)
    exported = jax.export.export(jax.jit(conv_transpose), platforms=("cpu", "cuda"))(
        jax.ShapeDtypeStruct((*sizes, 3), jnp.float32), kernel
    )
    assert_close(exported.call(x, kernel), conv_transpose(x, kernel))
