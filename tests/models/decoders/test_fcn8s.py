import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from representatives import representatives

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.fcn8s import FCN8sDecoder, bilinear_initializer
from flaxseg.models.layers.conv import ConvTranspose
from flaxseg.ops import max_pool, resize_bilinear


def shapes(model, size=(33, 47), channels=3):
    """Returns the shapes of the logits, and of the parameters by name."""
    image = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    logits, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), image)
    return logits, flax.traverse_util.flatten_dict(variables["params"], sep="/")


def test_parameters_are_those_of_the_paper():
    logits, parameters = shapes(build_model("fcn8s", num_classes=21))
    assert logits.shape == (2, 33, 47, 21)
    decoder = {name.removeprefix("decoder/"): leaf.shape for name, leaf in parameters.items() if "decoder" in name}
    assert decoder == {
        "fc6/kernel": (7, 7, 512, 4096),
        "fc6/bias": (4096,),
        "fc7/kernel": (1, 1, 4096, 4096),
        "fc7/bias": (4096,),
        "score32/kernel": (1, 1, 4096, 21),
        "score32/bias": (21,),
        "score16/kernel": (1, 1, 512, 21),
        "score16/bias": (21,),
        "score8/kernel": (1, 1, 256, 21),
        "score8/bias": (21,),
        "up_to16/kernel": (4, 4, 21, 21),
        "up_to8/kernel": (4, 4, 21, 21),
        "up_to1/kernel": (16, 16, 21, 21),
    }
    assert {name.split("/")[0] for name in parameters} == {"encoder", "decoder"}
    # VGG-16's 14,714,688; then fc6, fc7, three scores, three upsamplings.
    own = 102_764_544 + 16_781_312 + (4097 + 513 + 257) * 21 + (16 + 16 + 256) * 21**2
    assert sum(leaf.size for leaf in parameters.values()) == 14_714_688 + own


@pytest.mark.parametrize(
    "encoder", representatives(["resnet18", "vgg11_bn", "mobilenet_v2", "mit_b0"], ["resnet18", "mit_b0"])
)
def test_other_encoders_types_and_channels(encoder):
    model = build_model("fcn8s", num_classes=4, encoder=encoder, width=8, dtype=jnp.bfloat16)
    for channels in (1, 4):
        logits, parameters = shapes(model, channels=channels)
        assert (logits.shape, logits.dtype) == ((2, 33, 47, 4), jnp.float32)
        assert {leaf.dtype for leaf in parameters.values()} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("factor", [2, pytest.param(8, marks=pytest.mark.long)])
def test_transposed_convolutions_are_initialized_as_bilinear_upsampling(factor):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    layer = ConvTranspose(3, 2 * factor, factor, use_bias=False, kernel_init=bilinear_initializer)
    y, variables = compiled(layer.init_with_output)(jax.random.key(1), x)
    # Outside of the image are zeros, so the outermost pixels fade out.
    inside = slice(factor, -factor)
    expected = resize_bilinear(x, (5 * factor, 6 * factor))
    np.testing.assert_allclose(y[:, inside, inside], expected[:, inside, inside], atol=1e-5)
    along = (np.arange(factor) + 0.5) / factor
    np.testing.assert_allclose(variables["params"]["kernel"][:factor, factor, 1, 1] / along[-1], along, rtol=1e-6)


def test_vggs_features_are_pooled_before_they_are_scored():
    channels = (2, 2, 3, 4, 5, 5)
    features = [jax.random.normal(jax.random.key(i), (1, 32 >> i, 32 >> i, c)) for i, c in enumerate(channels)]
    decoder = FCN8sDecoder(2, 6, 0.5, True, jnp.float32)
    shapes = jax.eval_shape(functools.partial(decoder.init, train=False), jax.random.key(9), features)["params"]
    parameters = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    parameters["score8"]["kernel"] = jax.random.normal(jax.random.key(9), (1, 1, 3, 2))
    parameters["up_to1"]["kernel"] = bilinear_initializer(None, (16, 16, 2, 2))
    eighth = max_pool(features[2]) @ parameters["score8"]["kernel"][0, 0]
    logits = jax.jit(functools.partial(decoder.apply, train=False))({"params": parameters}, features)
    inside = slice(8, -8)
    expected = resize_bilinear(eighth, (32, 32))[:, inside, inside]
    np.testing.assert_allclose(logits[:, inside, inside], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width = 0: must be an integer of at least 1"),
        ({"dropout": 1}, "dropout = 1: must be a number of at least 0 and below 1"),
        ({"encoder": "vgg17"}, "encoder = 'vgg17': unknown; did you mean"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("fcn8s", **{"num_classes": 3} | options)
