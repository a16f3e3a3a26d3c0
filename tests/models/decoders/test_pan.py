import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from representatives import representatives

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.pan import FeaturePyramidAttention, GlobalAttentionUpsample


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("options", "stride", "blocks"),
    [
        ({}, 16, 3),
        ({"output_stride": 32, "encoder": "mit_b0"}, 32, 3),
        ({"encoder_depth": 4}, 16, 2),
        ({"encoder_depth": 3}, 8, 1),
    ],
)
def test_depths_and_output_strides(options, stride, blocks):
    model = build_model("pan", num_classes=2, **{"encoder": "resnet18", "dtype": jnp.bfloat16} | options)
    x = jax.ShapeDtypeStruct((1, 33, 47, 4), jnp.float32)
    init = functools.partial(model.init_with_output, train=True)
    logits, variables = jax.eval_shape(init, jax.random.key(0), x)
    assert model.stride == stride
    assert (logits.shape, logits.dtype) == ((1, 33, 47, 2), jnp.float32)
    assert sum(name.startswith("upsample") for name in variables["params"]["decoder"]) == blocks


def test_the_error_for_an_encoder_that_cannot_be_dilated_names_alternatives():
    with pytest.raises(ArgumentError, match=r"Set output_stride = 32, or encoder to one of resnet18, .*") as found:
        build_model("pan", num_classes=3, encoder="mit_b0")
    fitting = str(found.value).split("one of ")[1].split(", ")
    assert "mobilenet_v2" in fitting and "mit_b1" not in fitting
    assert build_model("pan", num_classes=3, encoder="mit_b0", output_stride=32).stride == 32
    with pytest.raises(ArgumentError, match="output_stride = 8: this architecture supports 16, 32"):
        build_model("pan", num_classes=3, output_stride=8)


@pytest.mark.parametrize("size", representatives([(1, 1), (3, 1), (2, 9), (8, 12)], [(1, 1), (2, 9)]))
def test_the_pyramid_takes_maps_of_any_size(size):
    module, x = FeaturePyramidAttention(4), normal(0, 2, *size, 3)
    y, variables = jax.jit(functools.partial(module.init_with_output, train=False))(jax.random.key(1), x)
    assert y.shape == (2, *size, 4) and np.isfinite(y).all()
    variables["params"]["middle"] = jax.tree.map(jnp.zeros_like, variables["params"]["middle"])
    # Without a map to weight, only the global mean remains.
    alone = jax.jit(functools.partial(module.apply, train=False))(variables, x)
    np.testing.assert_allclose(alone, np.broadcast_to(alone[:, :1, :1], y.shape), atol=1e-6)


def test_a_closed_gate_removes_the_finer_map():
    fine, coarse = normal(0, 1, 8, 6, 3), normal(1, 1, 4, 3, 4)
    block = GlobalAttentionUpsample(4)
    variables = compiled(block.init)(jax.random.key(2), fine, coarse, train=False)
    gate = variables["params"]["gate"]["norm"]
    results = {}
    for bias in (-50.0, 0.0, 50.0):
        gate["scale"], gate["bias"] = jnp.zeros(4), jnp.full(4, bias)
        results[bias] = compiled(block.apply)(variables, fine, coarse, train=False)
    # Upsampling keeps the values of the corners.
    np.testing.assert_allclose(results[-50.0][:, ::7, ::5], coarse[:, ::3, ::2], atol=1e-6)
    np.testing.assert_allclose(results[0.0], (results[-50.0] + results[50.0]) / 2, atol=1e-5)
    assert np.abs(results[50.0] - results[-50.0]).max() > 0.1
