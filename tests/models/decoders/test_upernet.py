import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg import ops
from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.upernet import PyramidPooling, UPerNetDecoder


def shapes_of(**options):
    model = build_model("upernet", num_classes=2, encoder="resnet18", decoder_channels=8, **options)
    x = jax.ShapeDtypeStruct((1, 33, 47, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, train=True), {"params": jax.random.key(0)}, x)


def test_a_grid_finer_than_the_map_is_the_map_when_resized_back():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 3))
    np.testing.assert_allclose(ops.resize_bilinear(ops.adaptive_average_pool(x, 6), (2, 2)), x, rtol=1e-6)


def test_auxiliary_head_only_on_request():
    alone, with_head = shapes_of(), shapes_of(auxiliary_head=True)
    assert with_head["params"].keys() - alone["params"].keys() == {"auxiliary_block", "auxiliary_head0"}
    assert with_head["params"]["auxiliary_block"]["conv"]["kernel"].shape == (3, 3, 256, 256)
    assert [x.shape for x in jax.tree.leaves(with_head["auxiliary"])] == [(1, 33, 47, 2)]


def test_the_auxiliary_head_is_given_the_normalized_feature():
    decoder = UPerNetDecoder(8, auxiliary_head=True)
    features = [jax.random.normal(jax.random.key(i), (1, 64 >> i, 64 >> i, 3 * i), jnp.float32) for i in range(5)]
    (_, side), variables = jax.jit(functools.partial(decoder.init_with_output, train=False))(
        jax.random.key(9), features
    )
    feature = np.asarray(features[3])
    expected = (feature - feature.mean(-1, keepdims=True)) / np.sqrt(feature.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(side, expected, rtol=0, atol=1e-5)
    assert set(variables["params"]["feature_norm1"]) == {"scale", "bias"}


@pytest.mark.parametrize(("depth", "laterals"), [(3, 1), (4, 2), (5, 3)])
def test_a_lateral_layer_for_each_feature_but_the_coarsest(depth, laterals):
    decoder = shapes_of(encoder_depth=depth)["params"]["decoder"]
    assert sum(name.startswith("lateral") for name in decoder) == laterals
    assert decoder["fuse"]["conv"]["kernel"].shape == (3, 3, 8 * (laterals + 1), 8)


class Seen(Exception):
    """Ends a forward pass once the feature in question is computed."""


def test_features_are_normalized_with_the_given_epsilon_or_not_at_all():
    features = [jnp.zeros((1, 8 // stride, 8 // stride, 2)) for stride in (1, 2, 4, 8)]
    values = features[-1].at[0, 0, 0].set(jnp.array([0.0, 0.2]))
    init = functools.partial(UPerNetDecoder(4).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), [*features[:-1], values])
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)

    def normalized(**options):
        def noting(call, args, kwargs, context):
            if isinstance(context.module, PyramidPooling):
                raise Seen(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(noting), pytest.raises(Seen) as seen:
            UPerNetDecoder(4, **options).apply(variables, [*features[:-1], values], train=False)
        return seen.value.args[0][0, 0, 0]

    # The variance is 0.01, and scales and biases are 1.
    np.testing.assert_allclose(normalized(feature_epsilon=0.03), [0.5, 1.5], rtol=1e-5)
    np.testing.assert_allclose(normalized(feature_epsilon=1e-12), [0, 2], atol=1e-5)
    np.testing.assert_array_equal(normalized(normalize_features=False), values[0, 0, 0])
    assert not any("feature_norm" in name for name in shapes_of(normalize_features=False)["params"]["decoder"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_channels": 1.5}, "decoder_channels = 1.5: must be an integer of at least 1"),
        ({"normalize_features": 1}, "normalize_features = 1: must be True or False"),
        ({"feature_epsilon": 0}, "feature_epsilon = 0: must be a number above 0"),
        ({"auxiliary_head": "much"}, "auxiliary_head = 'much': must be True or False"),
        ({"encoder": "resnet19"}, "encoder = 'resnet19': unknown"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("upernet", **{"num_classes": 3} | options)
