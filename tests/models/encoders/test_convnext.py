import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.models.encoders import make_encoder
from flaxseg.models.encoders.convnext import ConvNeXt, _Block
from flaxseg.models.pretrained.torch_names import convert_tensors


@pytest.mark.parametrize(
    ("depth", "output_stride", "strides"),
    [
        pytest.param(5, 32, [1, 2, 4, 8, 16, 32], marks=pytest.mark.long),
        (5, 16, [1, 2, 4, 8, 16, 16]),
        pytest.param(5, 8, [1, 2, 4, 8, 8, 8], marks=pytest.mark.long),
        (3, 8, [1, 2, 4, 8]),
    ],
)
def test_features_have_the_requested_strides(depth, output_stride, strides):
    encoder = make_encoder("convnext_tiny", depth=depth, output_stride=output_stride, dtype=jnp.float32)
    init = functools.partial(encoder.init_with_output, train=False)
    features, _ = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32))
    assert [feature.shape[1:3] for feature in features] == [(64 // stride, 96 // stride) for stride in strides]
    assert encoder.channels == (0, 96, 192, 384, 768)[:depth]
    assert encoder.channels == tuple(feature.shape[-1] for feature in features[1:])


def test_a_dilated_block_equals_the_block_on_every_other_pixel():
    x = jax.random.normal(jax.random.key(0), (1, 10, 6, 4))
    variables = compiled(_Block(1, jnp.float32).init)(jax.random.key(1), x, train=False)
    variables["params"]["gamma"] = jnp.full(4, 300.0)
    sparse = compiled(_Block(1, jnp.float32).apply)(variables, x[:, ::2, ::2], train=False)
    dilated = compiled(_Block(2, jnp.float32).apply)(variables, x, train=False)
    np.testing.assert_allclose(dilated[:, ::2, ::2], sparse, atol=1e-4)
    assert np.abs(sparse - x[:, ::2, ::2]).max() > 0.1


def test_blocks_are_initialized_near_the_identity():
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 4))
    out, variables = compiled(_Block(1, jnp.float32).init_with_output)(jax.random.key(1), x, train=False)
    np.testing.assert_array_equal(variables["params"]["gamma"], np.full(4, 1e-6, np.float32))
    np.testing.assert_allclose(out, x, atol=1e-5)


def test_names_of_published_files_and_of_feature_extractors_are_equivalent():
    names = ["stem{}0.weight", "stages{}2.downsample.1.bias", "stages{}2.blocks.10.mlp.fc1.weight"]
    names.append("stages{}3.blocks.0.gamma")
    paths = []
    for separator in "._":
        tensors = {name.format(separator): np.zeros((1, 1)) for name in names} | {"head.fc.weight": np.zeros((1, 1))}
        found, unknown = convert_tensors(tensors, ConvNeXt.torch_names)
        assert not unknown
        paths.append(list(found))
    assert paths[0] == paths[1]
    assert "params/stage2_block10/expand/kernel" in paths[0]
    assert "params/stage3_block0/gamma" in paths[0]
