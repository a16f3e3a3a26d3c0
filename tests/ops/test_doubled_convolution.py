"""The convolution of an upsampled image equals that of the image upsampled first, on every platform and mesh."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flaxseg.ops import conv, resize_nearest
from flaxseg.train.partitioner import reduce_once
from flaxseg.train.program_cost import collectives
from flaxseg.train.sharding import batch_sharding, make_mesh, replicated


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def value_and_grads(function, *arguments):
    def run(*arguments):
        value, pull_back = jax.vjp(function, *arguments)
        return value, pull_back(normal(99, *value.shape))

    return jax.jit(run)(*arguments)


def assert_close(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * np.abs(e).max())


def test_an_image_by_hand():
    x = np.zeros((1, 8, 8, 1), np.float32)
    x[0, 2, 3] = 1
    kernel = np.arange(1.0, 10, dtype=np.float32).reshape(3, 3, 1, 1)
    found = conv(x, kernel, size=(16, 16))[0, :, :, 0]
    # Each output pixel adds the taps that read one of the four copies of the 1, at rows 4 and 5 and columns 6 and 7.
    expected = np.zeros((16, 16))
    expected[3:7, 5:9] = [[9, 17, 15, 7], [6 + 9, 28, 24, 4 + 7], [9, 16, 12, 5], [3, 5, 3, 1]]
    expected[5, 5:9] = [3 + 6, 2 + 3 + 5 + 6, 1 + 2 + 4 + 5, 1 + 4]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(16, 18), (20, 9), (16, 27)])
def test_value_and_gradients_equal_those_of_an_image_that_is_resized_first(size):
    x, skip, kernel = normal(0, 2, 8, 9, 3), normal(1, 2, *size, 2), normal(2, 3, 3, 5, 4)

    def resized_first(x, skip, kernel):
        return conv([resize_nearest(x, size), skip], kernel)

    found = value_and_grads(lambda x, skip, kernel: conv([x, skip], kernel, size=size), x, skip, kernel)
    assert_close(found, value_and_grads(resized_first, x, skip, kernel))


@pytest.mark.parametrize(
    ("options", "side", "platform", "by_parity"),
    [
        ({}, 8, "cpu", True),
        ({}, 8, "cuda", False),
        ({}, 7, "cpu", False),
        ({"dilation": 2}, 8, "cpu", False),
        ({"padding": "VALID"}, 8, "cpu", False),
    ],
)
def test_four_small_convolutions_are_used_only_on_the_cpu(options, side, platform, by_parity):
    x, kernel = normal(0, 1, side, side, 2), normal(1, 3, 3, 2, 3)
    convolve = functools.partial(conv, size=(2 * side, 2 * side), **options)
    text = jax.jit(convolve).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == (4 if by_parity else 1)
    assert_close(convolve(x, kernel), conv(resize_nearest(x, (2 * side, 2 * side)), kernel, **options))


def test_devices_add_the_gradient_of_the_kernel_once():
    mesh = make_mesh(data=2, fsdp=2)
    x, kernel = normal(0, 4, 16, 8, 2), normal(1, 3, 3, 2, 3)

    def gradient(kernel, x):
        return jax.grad(lambda kernel: (conv(x, kernel, size=(32, 16)) ** 2).sum())(kernel)

    def once(kernel, x):
        with reduce_once(mesh):
            return gradient(kernel, x)

    placed = jax.device_put(kernel, replicated(mesh)), jax.device_put(x, batch_sharding(mesh))
    compiled = jax.jit(once, out_shardings=replicated(mesh)).lower(*placed).compile()
    np.testing.assert_allclose(compiled(*placed), jax.jit(gradient)(kernel, x), rtol=1e-5)
    assert collectives(compiled.as_text()) == {"all-reduce": (1, 4 * kernel.size)}


def test_rows_are_split_over_devices():
    mesh = jax.make_mesh((2, 4), ("data", "spatial"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x, kernel = normal(0, 2, 16, 8, 3), normal(1, 3, 3, 3, 4)
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data", "spatial")))

    def upsampled(x, kernel):
        return conv(x, kernel, size=(32, 16))

    assert_close(value_and_grads(upsampled, placed, kernel), value_and_grads(upsampled, x, kernel))
