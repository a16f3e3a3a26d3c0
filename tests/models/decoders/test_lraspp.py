import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg import ops
from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.lraspp import LRASPPDecoder


def test_the_last_feature_is_gated_by_its_mean_beside_the_finer_one():
    sizes = [(16, 16, 3), (8, 8, 2), (4, 4, 2), (2, 4, 5), (1, 2, 6)]
    features = [jax.random.normal(jax.random.key(i), (2, *size)) for i, size in enumerate(sizes)]
    decoder = LRASPPDecoder(decoder_channels=7)
    found, variables = compiled(decoder.init_with_output)(jax.random.key(9), features, train=False)
    params = variables["params"]
    high = np.asarray(features[-1])
    # Fresh batch statistics normalize by 1 / sqrt(1 + 1e-5).
    reduced = np.maximum(high @ np.asarray(params["reduce"]["conv"]["kernel"][0, 0]) / np.sqrt(1 + 1e-5), 0)
    gate = 1 / (1 + np.exp(-high.mean((1, 2), keepdims=True) @ np.asarray(params["gate"]["kernel"][0, 0])))
    expected = ops.resize_bilinear(jnp.asarray(reduced * gate), (2, 4))
    np.testing.assert_array_equal(found[..., :5], features[3])
    np.testing.assert_allclose(found[..., 5:], expected, rtol=1e-5, atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ArgumentError, match="decoder_channels = 0: must be an integer of at least 1"):
        build_model("lraspp", num_classes=2, decoder_channels=0)
