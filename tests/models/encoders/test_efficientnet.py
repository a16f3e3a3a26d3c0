import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import WeightsError
from flaxseg.models import unet
from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.encoders.efficientnet import Block, _Block, _same_pads
from flaxseg.models.layers.conv import ConvNormAct
from flaxseg.models.pretrained.load import put_tensors

IMAGE = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)


def strides(name, **options):
    """Returns stride and dilation of each block's depthwise convolution."""
    return [(block.stride, block.dilation) for block in make_encoder(name, dtype=jnp.float32, **options).blocks()]


def of_package(block, layer):
    """Returns the names of a block's layer and its normalization in efficientnet_pytorch and efficientnet_lite."""
    place = ("expand", "depthwise", "project").index(layer)
    return f"_blocks.{block.number}._{layer}_conv", f"_blocks.{block.number}._bn{place}"


def of_timm(block, layer):
    """Returns timm's names, whose numbers start at the first layer that a block has."""
    layers = ["depthwise", "project"] if block.expansion == 1 else ["expand", "depthwise", "project"]
    convs = {2: ["dw", "pw"], 3: ["pw", "dw", "pwl"]}[len(layers)]
    place, before = layers.index(layer), f"blocks.{block.stage}.{block.position}"
    return f"{before}.conv_{convs[place]}", f"{before}.bn{place + 1}"


@functools.cache
def published(encoder, scheme):
    """Returns the tensors of a whole EfficientNet-Lite or B0, with classifier, under one of the two naming schemes."""
    tensors, lite = {}, encoder.endswith("lite0")
    draw = np.random.default_rng(0)

    def put(conv, norm, shape):
        tensors[f"{conv}.weight"] = draw.normal(size=shape).astype(np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{norm}.{leaf}"] = draw.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        tensors[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)

    package, channels = scheme is of_package, 32
    put(*(("_conv_stem", "_bn0") if package else ("conv_stem", "bn1")), (32, 3, 3, 3))
    for block in make_encoder(encoder, dtype=jnp.float32).blocks():
        wide, size = channels * block.expansion, block.kernel_size
        if block.expansion > 1:
            put(*scheme(block, "expand"), (wide, channels, 1, 1))
        put(*scheme(block, "depthwise"), (wide, 1, size, size))
        for side, shape in () if lite else (("reduce", (channels // 4, wide)), ("expand", (wide, channels // 4))):
            place = f"_blocks.{block.number}._se_" if package else f"blocks.{block.stage}.{block.position}.se.conv_"
            tensors[f"{place}{side}.weight"] = draw.normal(size=(*shape, 1, 1)).astype(np.float32)
            tensors[f"{place}{side}.bias"] = draw.normal(size=shape[0]).astype(np.float32)
        put(*scheme(block, "project"), (block.channels, wide, 1, 1))
        channels = block.channels
    put(*(("_conv_head", "_bn1") if package else ("conv_head", "bn2")), (1280, 320, 1, 1))
    tensors["_fc.bias" if package else "classifier.bias"] = np.zeros(1000, np.float32)
    return tensors


@functools.cache
def network(encoder, depth):
    """Returns a U-Net with an encoder, and the shapes of its variables."""
    model = unet(num_classes=2, encoder=encoder, encoder_depth=depth, decoder_channels=(8,) * depth)
    return model, jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), IMAGE)


def loaded(encoder, tensors, depth):
    """Returns the encoder's variables with these tensors."""
    model, shapes = network(encoder, depth)
    variables = put_tensors(shapes, model, tensors, name="these", partial=False)
    return {collection: tree["encoder"] for collection, tree in variables.items()}


@pytest.mark.parametrize(
    ("encoder", "depth"),
    [
        ("efficientnet_b0", 5),
        ("efficientnet_lite0", 3),
        *(pytest.param("efficientnet_b0", depth, marks=pytest.mark.long) for depth in (3, 4)),
        *(pytest.param("efficientnet_lite0", depth, marks=pytest.mark.long) for depth in (4, 5)),
    ],
)
def test_both_schemes_of_names_fill_the_same_variables_at_every_depth(encoder, depth):
    package, timm = (loaded(encoder, published(encoder, scheme), depth) for scheme in (of_package, of_timm))
    jax.tree.map(np.testing.assert_array_equal, package, timm)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(timm))


def test_unknown_blocks_are_reported():
    tensors = published("efficientnet_lite0", of_timm) | {"blocks.5.4.conv_pw.weight": np.zeros((1, 1, 1, 1))}
    with pytest.raises(
        WeightsError, match=r"in the file, but not in the network: 1 \(blocks\.5\.4\.conv_pw\.weight \(1, 1, 1, 1\)\)"
    ):
        loaded("efficientnet_lite0", tensors, depth=3)


def test_strides_become_dilations_as_in_the_references():
    b1 = strides("efficientnet_b1", output_stride=16)
    assert b1[16:] == [(1, 2)] * 7 and {dilation for _, dilation in b1[:16]} == {1}
    # From its second block, B0's stage before the last stride already belongs to 1/32.
    b0 = strides("efficientnet_b0", output_stride=8)
    assert b0[5:] == [(1, 2)] * 4 + [(1, 4)] * 7
    assert strides("efficientnet_b0", output_stride=16)[8:11] == [(1, 1), (1, 2), (1, 2)]
    # In timm the dilation starts one block after the stride that it replaces.
    assert strides("efficientnet_lite0", output_stride=8)[4:13] == [(1, 1), (1, 1), *[(1, 2)] * 6, (1, 4)]


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "pads"),
    [(224, 3, 2, (0, 1)), (112, 5, 2, (1, 2)), (15, 5, 2, (2, 2)), (75, 3, 2, (1, 1)), (7, 5, 1, (2, 2))],
)
def test_padding_equals_tensorflows(size, kernel_size, stride, pads):
    assert _same_pads(size, kernel_size, stride) == (pads, pads)


def test_stochastic_depth_increases_with_the_block_and_lite_has_none():
    def rates(name):
        found = {}

        def record(call, args, kwargs, context):
            if isinstance(context.module, nn.Dropout):
                found[context.module.parent.name] = context.module.rate
            return call(*args, **kwargs)

        with nn.intercept_methods(record):
            init = functools.partial(make_encoder(name, dtype=jnp.float32).init, train=False)
            jax.eval_shape(init, jax.random.key(0), IMAGE)
        return found

    # Blocks that change the channels have no residual connection; B0 has 16 blocks.
    b0 = {f"block{number}": 0.2 * number / 16 for number in (2, 4, 6, 7, 9, 10, 12, 13, 14)}
    assert rates("efficientnet_b0") == pytest.approx(b0)
    assert set(rates("efficientnet_lite0").values()) == {0.0}


@pytest.mark.parametrize(("squeeze", "activation"), [(False, nn.relu6), (True, nn.silu)])
def test_a_block_by_hand(squeeze, activation):
    block = Block(1, 1, 1, 3, 1, 1, "SAME", 6, 8, is_feature=False)
    layer = functools.partial(ConvNormAct, activation=activation, epsilon=1e-3)
    module = _Block(block, layer, squeeze=squeeze, rate=0.0)
    x = jax.random.normal(jax.random.key(0), (1, 1, 1, 8))
    params = compiled(module.init)(jax.random.key(1), x, train=False)["params"]
    assert ("squeeze" in params) is squeeze
    variables = compiled(module.init)(jax.random.key(1), x, train=False)
    found = compiled(module.apply)(variables, x, train=False)[0, 0, 0]

    # With an image of one pixel, only the center of the depthwise kernel matters; means are 0 and variances 1.
    normal = 1 / math.sqrt(1 + 1e-3)
    y = activation(x[0, 0, 0] @ params["expand"]["conv"]["kernel"][0, 0] * normal)
    y = activation(y * params["depthwise"]["conv"]["kernel"][1, 1, 0] * normal)
    if squeeze:
        weights = nn.silu(y @ params["squeeze"]["reduce"]["kernel"][0, 0])
        y = y * nn.sigmoid(weights @ params["squeeze"]["expand"]["kernel"][0, 0])
    expected = x[0, 0, 0] + y @ params["project"]["conv"]["kernel"][0, 0] * normal
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_lite_normalizes_images_as_in_its_training():
    model = unet(num_classes=2, encoder="efficientnet_lite0")
    assert (model.mean, model.std) == ((127.0,) * 3, (128.0,) * 3)
    assert ENCODERS["efficientnet_b0"].mean != model.mean
