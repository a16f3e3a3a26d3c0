import functools

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models import resunet
from flaxseg.models.standalone.resunet import _Unit


def params_of(model, channels=3):
    x = jax.ShapeDtypeStruct((1, 16, 16, channels), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return flax.traverse_util.flatten_dict(variables["params"], sep="/")


def test_parameters_are_those_of_the_paper_and_of_the_projections():
    params = params_of(resunet(num_classes=1))
    in_units = {"norm1/scale", "norm1/bias", "conv1/kernel", "norm2/scale", "norm2/bias", "conv2/kernel"}
    units = ["encoder/level0", *(f"encoder/level{i}" for i in (1, 2, 3)), *(f"decoder/level{i}" for i in (0, 1, 2))]
    expected = {f"{unit}/{name}" for unit in units for name in in_units | {"projection/kernel"}}
    expected -= {"encoder/level0/norm1/scale", "encoder/level0/norm1/bias"}
    assert set(params) == expected | {"head/kernel", "head/bias"}
    # Input and output channels of each unit, from the paper's table; in total the paper has 7.8 million parameters.
    widths = [(3, 64), (64, 128), (128, 256), (256, 512), (768, 256), (384, 128), (192, 64)]
    convs = sum(9 * (i * o + o * o) for i, o in widths) + 65
    norms = sum(2 * (i + o) for i, o in widths) - 2 * 3
    sizes = {name: leaf.size for name, leaf in params.items()}
    assert sum(size for name, size in sizes.items() if "projection" not in name) == convs + norms == 7_786_497
    assert sum(size for name, size in sizes.items() if "projection" in name) == sum(i * o for i, o in widths)


def test_a_unit_without_its_convolutions_is_its_projection():
    unit = _Unit(2, 3, "batch", nn.relu, 0.0, jnp.float32, stride=2)
    parts = [jax.random.normal(jax.random.key(i), (1, 4, 6, channels)) for i, channels in enumerate((1, 3))]
    variables = jax.jit(functools.partial(unit.init, train=False))(jax.random.key(2), *parts)
    params = variables["params"] | {"conv2": {"kernel": jnp.zeros((3, 3, 2, 2))}}
    made = jax.jit(functools.partial(unit.apply, train=False))(variables | {"params": params}, *parts)
    expected = jnp.concatenate(parts, -1)[:, ::2, ::2] @ params["projection"]["kernel"][0, 0]
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_strided_kernel_is_centered_on_the_pixel_of_the_projection():
    unit = _Unit(1, 3, "none", lambda x: x, 0.0, jnp.float32, stride=2)
    x = jnp.zeros((1, 6, 6, 1)).at[0, 2, 2, 0].set(1)
    variables = compiled(unit.init)(jax.random.key(0), x, train=False)
    middle = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    params = variables["params"] | {name: {"kernel": middle, "bias": jnp.zeros(1)} for name in ("conv1", "conv2")}
    made = compiled(unit.apply)({"params": params}, x, train=False)[0, :, :, 0]
    assert made[1, 1] == 1 + params["projection"]["kernel"].item()
    assert np.count_nonzero(made) == 1


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
def test_other_kernels_norms_and_upsamplings_keep_the_size(kernel_size):
    model = resunet(num_classes=2, width=4, norm="none", upsampling="bilinear", kernel_size=kernel_size)
    x = jax.ShapeDtypeStruct((1, 33, 47, 4), jnp.float32)
    logits, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
    assert logits.shape == (1, 33, 47, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsampling": "transposed"}, "upsampling = 'transposed': must be one of 'nearest', 'bilinear'"),
        ({"dropout": 1}, "dropout = 1: must be a number of at least 0 and below 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        resunet(**{"num_classes": 3} | options)
