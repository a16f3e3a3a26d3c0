"""Sums over examples that are split over devices: the same values, added between devices once."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flaxseg import ops
from flaxseg.ops.example_sum import examples_split_over
from flaxseg.train.partitioner import reduce_once
from flaxseg.train.program_cost import collectives
from flaxseg.train.sharding import batch_sharding, make_mesh, replicated


@pytest.mark.parametrize("stride", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_gradient_of_a_kernel_is_reduced_once(stride):
    mesh = make_mesh(data=2, fsdp=2)
    x = jax.random.normal(jax.random.key(0), (4, 32 * stride, 5, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 3))

    def gradient(kernel, x):
        return jax.grad(lambda kernel: (ops.conv(x, kernel, stride=stride) ** 2).sum())(kernel)

    def once(kernel, x):
        with reduce_once(mesh):
            return gradient(kernel, x)

    expected = jax.jit(gradient)(kernel, x)
    placed = jax.device_put(kernel, replicated(mesh)), jax.device_put(x, batch_sharding(mesh))
    reduced = {}
    for function in (gradient, once):
        compiled = jax.jit(function, out_shardings=replicated(mesh)).lower(*placed).compile()
        np.testing.assert_allclose(compiled(*placed), expected, rtol=1e-5)
        reduced[function] = collectives(compiled.as_text())
    size = 4 * kernel.size
    assert reduced[once] == {"all-reduce": (1, size)}
    assert reduced[gradient]["all-reduce"][1] > size, "XLA reduces once by itself now, so that `reduce_once` can go"


def test_the_sum_is_batched_and_differentiated_twice():
    """As several seeds in one program, and second derivatives, require."""
    mesh = make_mesh(data=2)
    x, kernels = np.ones((2, 32, 3, 1), np.float32), np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1, 1)

    def slope(kernel):
        return jax.grad(lambda kernel: (ops.conv(x, kernel, stride=(1, 2)) ** 3).sum())(kernel).sum()

    with reduce_once(mesh):
        values = jax.jit(jax.vmap(slope))(kernels)
        second = jax.jit(jax.grad(slope))(kernels[1])
    pixels = 2 * 32 * 2
    np.testing.assert_allclose(values, 3 * pixels * kernels.ravel() ** 2)
    np.testing.assert_allclose(second, np.full((1, 1, 1, 1), 6 * pixels))


def test_split_rows_are_not_summed_in_chunks():
    mesh = make_mesh(data=2, spatial=4)
    x = jax.random.normal(jax.random.key(0), (2, 64, 5, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 3))
    gradient = jax.jit(jax.grad(lambda kernel, x: (ops.conv(x, kernel) ** 2).sum()), out_shardings=replicated(mesh))
    placed = jax.device_put(kernel, replicated(mesh)), jax.device_put(x, batch_sharding(mesh))
    with reduce_once(mesh):
        compiled = gradient.lower(*placed).compile()
    np.testing.assert_allclose(compiled(*placed), gradient(kernel, x), rtol=1e-4)
    assert collectives(compiled.as_text())["collective-permute"][0] <= 8


@pytest.mark.parametrize(("rows", "convolutions"), [(False, 2), (True, 1)])
def test_depthwise_gradients_are_sums_over_taps_where_rows_are_split(rows, convolutions):
    """XLA's partitioner adds the kernel's gradient of a depthwise convolution several times there."""
    x, kernel = jax.ShapeDtypeStruct((2, 8, 8, 4), np.float32), jax.ShapeDtypeStruct((3, 3, 1, 4), np.float32)

    def gradients(x, kernel):
        with examples_split_over(make_mesh(data=2, spatial=2), ("data",), rows=rows):
            return jax.grad(lambda x, kernel: ops.conv(x, kernel, groups=4).sum(), (0, 1))(x, kernel)

    text = jax.jit(gradients).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.convolution") == convolutions


def test_depthwise_gradients_of_gathered_rows_are_right():
    mesh = make_mesh(data=2, spatial=2)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))

    def gradient(kernel, x):
        gathered = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec("data")))
        return jax.grad(lambda kernel: (ops.conv(gathered, kernel, groups=4) ** 2).sum())(kernel)

    def split(kernel, x):
        with reduce_once(mesh), ops.plain_forms():
            return gradient(kernel, x)

    placed = jax.device_put(x, batch_sharding(mesh))
    np.testing.assert_allclose(jax.jit(split)(kernel, placed), jax.jit(gradient)(kernel, x), rtol=1e-5)
