"""Sharded convolutions whose gradients XLA computes wrongly, alone and in a model wrapped by `partition_safely`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flaxseg.train.partitioner import partition_safely
from flaxseg.train.sharding import batch_sharding, make_mesh, state_sharding

CASES = {
    "kernels split over fsdp": ({"data": 2, "fsdp": 2, "spatial": 2}, (4, 4, 4, 8), 1),
    "fewer rows than devices": ({"data": 1, "spatial": 8}, (1, 8, 8, 8), 2),
}
"""Mesh, shape of the images, and stride of a residual block."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions of eight channels."""

    stride: int
    mean: float = 0.0
    std: float = 1.0

    @nn.compact
    def __call__(self, x, *, train=True):
        y = nn.Conv(8, (3, 3), strides=self.stride, use_bias=False, name="first")(x)
        y = nn.Conv(8, (3, 3), use_bias=False, name="second")(nn.relu(y))
        return x[:, :: self.stride, :: self.stride] + y


def block_in_plain_jax(params, x, *, stride):
    """Computes the block without Flax."""

    def conv(x, name, stride):
        kernel, layout = params[name]["kernel"], ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout)

    return x[:, ::stride, ::stride] + conv(jax.nn.relu(conv(x, "first", stride)), "second", 1)


def gradients_of(function):
    return jax.jit(jax.grad(lambda params, x: jnp.sum(function(params, x) ** 2)))


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    """Returns the stride, the mesh, the sharded parameters and images, and the gradients on one device."""
    parts, shape, stride = request.param
    mesh = make_mesh(**parts)
    x = jax.random.normal(jax.random.key(0), shape)
    kernels = jax.random.normal(jax.random.key(1), (2, 3, 3, 8, 8))
    params = {"first": {"kernel": kernels[0]}, "second": {"kernel": kernels[1]}}
    expected = gradients_of(lambda params, x: block_in_plain_jax(params, x, stride=stride))(params, x)
    sharded = jax.device_put(params, state_sharding(params, mesh)), jax.device_put(x, batch_sharding(mesh))
    return stride, mesh, sharded, expected


def relative_error(actual, expected):
    """Returns the largest error of a gradient, relative to its largest value."""
    errors = jax.tree.map(lambda a, e: np.abs(np.asarray(a) - np.asarray(e)).max() / np.abs(e).max(), actual, expected)
    return max(jax.tree.leaves(errors))


def test_plain_jax_computes_wrong_gradients(case):
    stride, _, sharded, expected = case
    actual = gradients_of(lambda params, x: block_in_plain_jax(params, x, stride=stride))(*sharded)
    assert relative_error(actual, expected) > 0.1, (
        "XLA computes these gradients correctly now; once all cases of this file are correct in every supported "
        "version of jax, remove flaxseg/train/partitioner.py and this file"
    )


def test_a_wrapped_model_computes_correct_gradients(case):
    stride, mesh, sharded, expected = case
    model = partition_safely(ResidualBlock(stride), mesh)
    actual = gradients_of(lambda params, x: model.apply({"params": params}, x, train=True))(*sharded)
    assert relative_error(actual, expected) < 1e-5


def test_a_model_on_a_mesh_without_fsdp_and_spatial_is_not_wrapped():
    model = ResidualBlock(1)
    assert partition_safely(model, make_mesh(data=8)) is model
