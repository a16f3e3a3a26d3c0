import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.models.layers.conv import (
    ACTIVATIONS,
    Conv,
    ConvNormAct,
    ConvTranspose,
    UpSample,
    activation_fn,
    crop,
    pad_to_stride,
)
from flaxseg.models.layers.normalization import BatchNorm, norm


def image(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def shapes(variables):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)


@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        (Conv(6), nn.Conv(6, (3, 3))),
        (Conv(6, (2, 4), stride=2, groups=2), nn.Conv(6, (2, 4), strides=2, feature_group_count=2)),
        (Conv(6, 1, use_bias=False), nn.Conv(6, (1, 1), use_bias=False)),
        (ConvTranspose(6), nn.ConvTranspose(6, (2, 2), strides=(2, 2))),
        (ConvTranspose(6, 4), nn.ConvTranspose(6, (4, 4), strides=(2, 2))),
    ],
)
def test_parameters_and_values_equal_those_of_flax_layers(ours, flax):
    x = image(2, 6, 5, 4)
    variables = compiled(flax.init)(jax.random.key(1), x)
    assert shapes(compiled(ours.init)(jax.random.key(1), x)) == shapes(variables)
    biased = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    np.testing.assert_allclose(compiled(ours.apply)(biased, x), compiled(flax.apply)(biased, x), rtol=0, atol=5e-6)


def test_parameters_stay_float32_when_computing_in_bfloat16():
    layer = ConvNormAct(4, dtype=jnp.bfloat16)
    y, variables = jax.eval_shape(
        lambda: layer.init_with_output(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), train=False)
    )
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"kernel"}),
        ({"norm": "none"}, {"kernel", "bias"}),
        ({"use_bias": True}, {"kernel", "bias"}),
        ({"norm": "none", "use_bias": False}, {"kernel"}),
    ],
)
def test_a_convolution_has_a_bias_on_request_or_without_normalization(options, names):
    variables = compiled(ConvNormAct(4, **options).init)(jax.random.key(0), image(1, 4, 4, 3), train=False)
    assert set(variables["params"]["conv"]) == names


def test_batch_norm_normalizes_and_updates_its_running_statistics():
    layer = norm("batch", 3, train=True, dtype=jnp.float32)
    x = 5 + 2 * image(2, 8, 8, 3)
    y, updates = compiled(layer.apply)(compiled(layer.init)(jax.random.key(0), x), x, mutable=["batch_stats"])
    np.testing.assert_allclose(np.std(y, (0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * np.mean(x, (0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("field", [True, False])
@pytest.mark.parametrize("argument", [True, False])
def test_an_argument_overrides_whether_batch_norm_uses_running_statistics(field, argument):
    x = image(2, 4, 4, 3)
    variables = compiled(BatchNorm(field).init)(jax.random.key(0), x)
    results = [
        layer.apply(variables, x, *arguments, mutable=["batch_stats"])
        for layer, arguments in ((BatchNorm(field), [argument]), (BatchNorm(argument), []))
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert np.any(results[0][1]["batch_stats"]["mean"]) != argument


@pytest.mark.parametrize("count", [2, 1024])
def test_batch_norm_of_few_nearly_equal_values_is_exact(count):
    x = jnp.tile(jnp.array([[[[300.0]]], [[[300.5]]]]), (1, count // 2, 1, 1))
    layer = norm("batch", 1, train=True, dtype=jnp.float32)
    y, updates = compiled(layer.apply)(compiled(layer.init)(jax.random.key(0), x), x, mutable=["batch_stats"])
    # The mean square and the squared mean are about 90,150: float32 hardly resolves their difference of 1 / 16.
    np.testing.assert_allclose(y[:, 0, 0, 0], np.array([-0.25, 0.25]) / np.sqrt(1 / 16 + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], [0.9 + 0.1 * count / (count - 1) / 16], rtol=1e-6)


@pytest.mark.parametrize(("features", "group"), [(32, 16), (24, 8), (5, 1)])
def test_group_norm_has_groups_of_sixteen_channels_or_a_common_divisor(features, group):
    layer = norm("group", features, train=True, dtype=jnp.float32)
    x = 3 * image(2, 4, 4, features)
    y = compiled(layer.apply)(compiled(layer.init)(jax.random.key(0), x), x).reshape(2, 16, features // group, group)
    np.testing.assert_allclose(np.mean(y, (1, 3)), 0, atol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="norm 'layer': allowed are batch, group, none"):
        norm("layer", 4, train=True, dtype=jnp.float32)
    with pytest.raises(ValueError, match="upsampling 'cubic': allowed are transposed, bilinear, nearest"):
        compiled(UpSample(4, "cubic").init)(jax.random.key(0), image(1, 2, 2, 4))


def test_activations_by_hand():
    x = jnp.array([-2.0, 0.0, 8.0])
    np.testing.assert_allclose(activation_fn("leaky_relu", negative_slope=0.3)(x), [-0.6, 0, 8])
    np.testing.assert_allclose(ACTIVATIONS["relu6"](x), [0, 0, 6])
    np.testing.assert_allclose(activation_fn("silu")(x), x / (1 + np.exp(-x)), rtol=1e-6)


@pytest.mark.parametrize("method", ["transposed", "bilinear", "nearest"])
def test_upsampling_doubles_the_size(method):
    y = compiled(UpSample(3, method).init_with_output)(jax.random.key(0), image(2, 3, 4, 5))[0]
    assert y.shape == (2, 6, 8, 3)


def test_convolution_and_resizing_commute():
    x, layer = image(1, 3, 4, 5), UpSample(2, "bilinear")
    variables = compiled(layer.init)(jax.random.key(0), x)
    resized = jax.image.resize(x, (1, 6, 8, 5), "bilinear")
    after = compiled(Conv(2, 1).apply)({"params": variables["params"]["conv"]}, resized)
    np.testing.assert_allclose(compiled(layer.apply)(variables, x), after, rtol=0, atol=1e-5)


def test_padding_is_undone_by_cropping():
    x = image(1, 33, 47, 2)
    padded = pad_to_stride(x, 16)
    assert padded.shape == (1, 48, 48, 2)
    np.testing.assert_array_equal(crop(padded, (33, 47)), x)
    assert not padded[:, 33:].any()
    assert pad_to_stride(padded, 16) is padded
