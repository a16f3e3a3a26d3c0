"""Depthwise convolution compared with XLA's form, where each form is used, exporting, and sharding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from representatives import representatives

from flaxseg.ops import conv

CHANNELS = 6


def normal(seed, *shape):
    # NumPy's numbers, because JAX would compile a program for each shape.
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def results(function, x, kernel):
    """Returns the function's value, and the gradients of both arguments for random weights of the output."""
    value, pull_back = jax.vjp(function, x, kernel)
    return value, pull_back(normal(99, *value.shape).astype(value.dtype))


def assert_close(actual, expected, tolerance=1e-5):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max())


def xla_conv(x, kernel, *, pads, stride=(1, 1), dilation=(1, 1)):
    """Computes the convolution in XLA's own form, with explicit padding."""
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=CHANNELS,
    )


FORMS = list(itertools.product([3, 5], [1, 2], [1, 2], ["SAME", "SYMMETRIC"]))
PAIRS = [(3, 1, 1, "SAME"), (5, 2, 1, "SYMMETRIC"), (3, 1, 2, "SYMMETRIC"), (5, 2, 2, "SAME"), (5, 1, 1, "SYMMETRIC")]


@pytest.mark.parametrize("form", representatives(FORMS, PAIRS))
def test_value_and_gradients_equal_those_of_xlas_form(form):
    window, stride, dilation, padding = form
    x, kernel = normal(0, 2, 12, 9, CHANNELS), normal(1, window, window, 1, CHANNELS)
    margin = dilation * (window - 1)
    pads = ((margin // 2,) * 2,) * 2
    if padding == "SAME":
        pads = lax.padtype_to_pads((12, 9), (margin + 1, margin + 1), (stride, stride), "SAME")
    expected = functools.partial(xla_conv, stride=(stride, stride), dilation=(dilation, dilation), pads=pads)
    ours = functools.partial(conv, stride=stride, dilation=dilation, groups=CHANNELS, padding=padding)
    assert_close(*(jax.jit(functools.partial(results, function))(x, kernel) for function in (ours, expected)))


@pytest.mark.parametrize(
    ("window", "options"),
    [
        ((1, 1), {"stride": (2, 2), "pads": ((0, 0), (0, 0))}),
        ((4, 2), {"stride": (3, 2), "dilation": (1, 3), "pads": ((9, 2), (0, 7))}),
        ((3, 3), {"stride": (2, 1), "dilation": (2, 4), "pads": ((-1, 0), (8, -1))}),
    ],
)
def test_any_window_stride_and_padding(window, options):
    x, kernel = normal(0, 2, 11, 8, CHANNELS), normal(1, *window, 1, CHANNELS)
    given = {"padding" if name == "pads" else name: value for name, value in options.items()}
    ours = functools.partial(conv, groups=CHANNELS, **given)
    expected = functools.partial(xla_conv, **options)
    assert_close(*(jax.jit(functools.partial(results, function))(x, kernel) for function in (ours, expected)))


def test_bfloat16_rounds_only_the_results():
    x, kernel = (a.astype(jnp.bfloat16) for a in (normal(0, 8, 16, 16, CHANNELS), normal(1, 5, 5, 1, CHANNELS)))
    run = jax.jit(functools.partial(results, functools.partial(conv, groups=CHANNELS)))
    rounded = jax.tree.map(lambda a: a.astype(jnp.float32), run(x, kernel))
    # The random weights of the output are rounded too, hence slightly more than one rounding of 2**-9.
    assert_close(rounded, run(x.astype(jnp.float32), kernel.astype(jnp.float32)), tolerance=2**-7)


@pytest.mark.parametrize(
    ("platform", "window", "out", "convolutions"),
    [("cpu", 3, 6, 0), ("cuda", 3, 6, 3), ("tpu", 3, 6, 3), ("cpu", 9, 6, 3), ("cpu", 3, 12, 3)],
)
def test_the_sum_over_taps_is_used_only_on_the_cpu_and_for_small_depthwise_kernels(platform, window, out, convolutions):
    run = functools.partial(results, functools.partial(conv, groups=CHANNELS))
    traced = jax.jit(run).trace(normal(0, 2, 16, 8, CHANNELS), normal(1, window, window, 1, out))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions


def test_vmap():
    run = functools.partial(results, functools.partial(conv, groups=CHANNELS))
    x, kernels = normal(0, 2, 7, 8, CHANNELS), normal(1, 2, 3, 3, 1, CHANNELS)
    separate = [jax.jit(run)(x, kernel) for kernel in kernels]
    batched = jax.jit(jax.vmap(run, (None, 0)))(x, kernels)
    assert_close([jax.tree.map(lambda leaf, i=i: leaf[i], batched) for i in range(2)], separate)


def test_exports_for_several_platforms_with_symbolic_sizes():
    sizes = jax.export.symbolic_shape("batch, height, width")
    x, kernel = normal(0, 2, 9, 8, CHANNELS), normal(1, 3, 3, 1, CHANNELS)
    function = jax.jit(functools.partial(conv, groups=CHANNELS))
    exported = jax.export.export(function, platforms=("cpu", "cuda"))(
        jax.ShapeDtypeStruct((*sizes, CHANNELS), jnp.float32), kernel
    )
    assert_close(exported.call(x, kernel), function(x, kernel))


def test_results_of_a_sharded_batch_equal_those_of_one_device():
    axes = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((4, 2), ("data", "spatial"), axis_types=axes)
    x, kernel = normal(0, 4, 12, 6, CHANNELS), normal(1, 3, 3, 1, CHANNELS)
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data", "spatial")))
    replicated = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
    for stride in (1, 2):
        run = jax.jit(functools.partial(results, functools.partial(conv, groups=CHANNELS, stride=stride)))
        assert_close(run(sharded, replicated), run(x, kernel))
