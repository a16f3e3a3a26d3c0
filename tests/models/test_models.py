"""The contract that every network of MODELS fulfills. A new row of MODELS is covered without a change here."""

import functools
import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from representatives import representatives

from flaxseg.errors import ArgumentError
from flaxseg.models import MODELS, Architecture, SegmentationModel, build_model
from flaxseg.models.encoders import ENCODERS
from flaxseg.registry import option_errors, options_of
from flaxseg.train import sharding
from flaxseg.train.partitioner import partition_safely, reduce_once

pytestmark = pytest.mark.usefixtures("small_encoder")

SHALLOW_ENCODER = {"encoder": "small", "encoder_depth": 3}

SMALL_OPTIONS = {
    "plain_unet": {"width": 4, "depth": 2},
    "attention_unet": {"width": 4, "depth": 2},
    "resunet": {"width": 4, "depth": 2},
    # One architecture with a real encoder.
    "unet": {"encoder": "resnet18", "encoder_depth": 4, "decoder_channels": (16, 16, 8, 8)},
    "unet_mobilenet": {"decoder_channels": (32, 16, 16, 8)},
    "fcn8s": {"encoder": "small", "width": 8},
    "mask2former": {
        "encoder": "small",
        "decoder_channels": 32,
        "queries": 4,
        "heads": 2,
        "pixel_layers": 1,
        "query_layers": 2,
        "pixel_mlp_channels": 16,
        "query_mlp_channels": 16,
    },
    "fpn": {"encoder": "small", "pyramid_channels": 16, "segmentation_channels": 32},
    "pspnet": {"encoder": "small", "decoder_channels": 16},
    "unetplusplus": SHALLOW_ENCODER | {"decoder_channels": (32, 16, 8)},
    "manet": SHALLOW_ENCODER | {"decoder_channels": (32, 16, 8)},
    "deeplabv3": SHALLOW_ENCODER | {"decoder_channels": 16},
    "deeplabv3plus": SHALLOW_ENCODER | {"decoder_channels": 16},
    "upernet": SHALLOW_ENCODER | {"decoder_channels": 16},
    "segformer": SHALLOW_ENCODER | {"decoder_channels": 16},
    "dpt": {"encoder": "small", "fusion_channels": 8},
    "eomt": {"encoder": "small_transformer", "queries": 3, "blocks": 1, "upscalings": 1},
    "fcn": SHALLOW_ENCODER | {"decoder_channels": 16},
    "lraspp": SHALLOW_ENCODER | {"decoder_channels": 16},
}
"""Options that make a network quick to compile. Other architectures get SHALLOW_ENCODER, and other functions none."""

WITHOUT_GRADIENT = {
    "mask2former": r"decoder/(queries/layer\d/(cross|self)/k/bias|pixels/level_embedding)",
    "linknet": r"decoder/.*/conv/bias",
    "pan": r"decoder/.*/conv/bias",
    "segformer": r"decoder/linear\d/bias",
    "upernet": r"decoder/feature_norm\d/bias",
}
"""Biases before a batch normalization or of the keys of an attention, as in their references, which have no gradient
except for rounding errors; and an embedding that kernels are applied to that are 0 at first."""

NUM_CLASSES = 5

BATCH = (4, 34, 15, 3)
"""Neither height nor width is a multiple of a stride, and rows and examples can be split over devices."""

BATCH_STATISTICS_OVER_DEVICES = ("plain_unet", "unet")
"""Networks whose gradients over devices are compared in training mode. In the others, small images leave so few values
for batch statistics that rounding errors dominate."""

TOLERANCE = 1e-4
"""Relative tolerance of gradients."""


def build(name, **options):
    small = SMALL_OPTIONS.get(name, SHALLOW_ENCODER if isinstance(MODELS[name], Architecture) else {})
    return build_model(name, num_classes=NUM_CLASSES, **small | options)


def images(*shape):
    return jax.random.normal(jax.random.key(5), shape)


@functools.cache
def compiled_init(name):
    return jax.jit(functools.partial(build(name).init, train=False))


@functools.cache
def variables_of(name, seed=1):
    return compiled_init(name)(jax.random.key(seed), images(1, 8, 8, 3))


def loss_and_grads(model, *, train=True):
    """Returns a jitted function of (params, batch_stats, images) that returns ((loss, updates), gradients)."""

    def loss(params, batch_stats, x):
        variables = {"params": params, "batch_stats": batch_stats}
        keys = {"dropout": jax.random.key(2)}
        logits, updates = model.apply(variables, x, train=train, mutable=["batch_stats"], rngs=keys)
        weights = jnp.cos(jnp.arange(logits.size, dtype=jnp.float32)).reshape(logits.shape)
        return jnp.mean(weights * jax.nn.log_softmax(logits)), updates

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def compiled(name, *, train):
    return loss_and_grads(build(name), train=train)


@functools.cache
def run(name, *, seed=1, train=True):
    variables = variables_of(name, seed)
    return compiled(name, train=train)(variables["params"], variables.get("batch_stats", {}), images(*BATCH))


@functools.cache
def traced_init(name, shape, dtype=jnp.float32):
    """Returns the shapes of a network's logits and variables, for images of a shape."""
    init = functools.partial(build(name, dtype=dtype).init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.fixture(params=list(MODELS))
def name(request):
    return request.param


@pytest.mark.parametrize(
    ("size", "channels", "dtype"),
    [
        ((33, 47), 3, jnp.float32),
        ((1, 1), 1, jnp.bfloat16),
        pytest.param((64, 2), 4, jnp.float32, marks=pytest.mark.long),
    ],
)
def test_logits_are_float32_at_the_images_resolution(name, size, channels, dtype):
    logits, _ = traced_init(name, (2, *size, channels), dtype)
    assert (logits.shape, logits.dtype) == ((2, *size, NUM_CLASSES), jnp.float32)


def test_attributes(name):
    model = build(name, mean=(1, 2, 3), std=[4.0, 5.0, 6.0])
    assert (model.num_classes, model.mean, model.std) == (NUM_CLASSES, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    own = ENCODERS[build(name).encoder_name] if hasattr(build(name), "encoder_name") else None
    expected = (own.mean, own.std) if own else (127.5, 127.5)
    assert (build(name).mean, build(name).std, build(name).dtype) == (*expected, jnp.float32)
    assert model.stride >= 1
    assert isinstance(model, SegmentationModel)
    # Networks are static arguments of jit.
    assert hash(build(name)) == hash(build(name))


def test_options_are_described_and_checked(name):
    options = {option.name: option for option in options_of(MODELS[name])}
    assert [option for option in options if not options[option].doc] == []
    assert [option for option in options if options[option].is_required] == ["num_classes"]
    assert {"mean", "std", "dtype"} < options.keys()
    defaults = {option: options[option].default for option in options if option != "num_classes"}
    assert option_errors(MODELS[name], defaults, key="options", given=["num_classes"]) == []
    assert build_model(name, num_classes=2, **defaults) == build_model(name, num_classes=2)
    (message,) = option_errors(MODELS[name], {"no_such_option": 1, "num_classes": 2}, key="options")
    assert message.startswith("options.no_such_option = 1: no such option; options are num_classes, ")


@pytest.mark.parametrize("name", representatives(MODELS, ("plain_unet", "segformer")))
def test_every_parameter_is_float32_and_learns(name):
    (loss, updates), gradients = run(name)
    assert np.isfinite(loss)
    still = set()
    for path, gradient in flax.traverse_util.flatten_dict(gradients, sep="/").items():
        assert gradient.dtype == jnp.float32, path
        assert np.isfinite(gradient).all(), path
        if not np.any(gradient) and not re.fullmatch(WITHOUT_GRADIENT.get(name, ""), path):
            still.add(path)
    # A small map with one channel, such as PAN's, can be all 0 after its ReLU with one random initialization.
    for seed in range(2, 6) if still else ():
        others = flax.traverse_util.flatten_dict(run(name, seed=seed)[1], sep="/")
        still -= {path for path in still if np.any(others[path])}
    assert not still
    before = variables_of(name).get("batch_stats", {})
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(updates.get("batch_stats", {})), strict=True):
        assert np.any(old != new)


@pytest.mark.parametrize("name", representatives(MODELS, ("plain_unet",)))
def test_a_sharded_batch_gives_one_devices_gradients(name):
    mesh = sharding.make_mesh(data=4, spatial=2)
    variables = jax.device_put(variables_of(name), sharding.replicated(mesh))
    spread = jax.device_put(images(*BATCH), sharding.batch_sharding(mesh))
    train = name in BATCH_STATISTICS_OVER_DEVICES
    wrapped = loss_and_grads(partition_safely(build(name), mesh), train=train)
    with reduce_once(mesh):
        sharded = wrapped(variables["params"], variables.get("batch_stats", {}), spread)
    for a, b in zip(jax.tree.leaves(run(name, train=train)), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1e-2, np.abs(a).max()))


@pytest.mark.parametrize("name", representatives(MODELS, ("plain_unet", "segformer")))
def test_bfloat16_stays_near_float32(name):
    x = images(2, 16, 16, 3)
    predictions = [
        jax.jit(functools.partial(build(name, dtype=dtype).apply, train=False)) for dtype in (jnp.float32, jnp.bfloat16)
    ]
    exact, rounded = (predict(variables_of(name), x) for predict in predictions)
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    for predict in predictions:
        predict(variables_of(name), -x)
        assert predict._cache_size() == 1, "recompiled for images of the same shape"


def test_the_input_size_of_initialization_does_not_matter(name):
    assert traced_init(name, (2, 33, 47, 3))[1] == traced_init(name, (1, 8, 8, 3))[1]


def test_a_name_is_looked_up():
    assert build_model("flaxseg.models:plain_unet", num_classes=2) == build_model("plain_unet", num_classes=2)
    with pytest.raises(ArgumentError, match=r"name = 'fpm': unknown; did you mean 'fpn'\? Known are "):
        build_model("fpm", num_classes=2)


@pytest.mark.parametrize("unet", [MODELS["unet"], functools.partial(build_model, "unet")])
def test_one_error_names_all_arguments_of_another_library(unet):
    with pytest.raises(ArgumentError) as caught:
        unet(encoder_name="resnet34", encoder_weights="imagenet", classes=2, activation=None)
    sentences = str(caught.value).split(". ")
    assert sentences[:4] == [
        "encoder_name = 'resnet34': no such option; use encoder",
        "encoder_weights = 'imagenet': no such option; leave it out: load_pretrained fills the variables of a network "
        "with weights",
        "classes = 2: no such option; use num_classes",
        "activation = None: no such option; leave it out: networks return logits",
    ]
    assert sentences[4].startswith("Options are num_classes, encoder, encoder_depth, ")
    with pytest.raises(ArgumentError, match=r"classes = 2: no such option; use num_classes; options are num_classes, "):
        MODELS["plain_unet"](classes=2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fpn", {"pyramid_chanels": 8}, "pyramid_chanels = 8: no such option; did you mean 'pyramid_channels'"),
        ("fpn", {"num_groups": 8}, r"num_groups = 8: no such option.*; options are num_classes, .*merge, dropout"),
        ("fpn", {"dtype": "float16"}, "dtype = 'float16': must be float32 or bfloat16"),
        ("fpn", {"output_stride": 16}, "output_stride = 16: this architecture supports 32"),
        ("fpn", {"auxiliary_head": True}, "auxiliary_head = True: this architecture has no auxiliary head"),
        ("fpn", {"auxiliary_channels": 8}, "auxiliary_channels = 8: this architecture has no such inner channels"),
        ("fpn", {"unpooled_features": True}, "unpooled_features = True: no such option"),
        ("plain_unet", {"backbone": "x"}, "backbone = 'x': no such option; options are num_classes, width"),
        ("fcn8s", {"encoder_depth": 4}, "encoder_depth = 4: FCN-8s needs 5"),
        ("fpn", {"image_classes": -1}, "image_classes = -1: must be an integer of at least 0"),
        ("fpn", {"align_corners": 1}, "align_corners = 1: must be True or False"),
        (
            "fpn",
            {"encoder_epsilon": 1e-5},
            "encoder_epsilon = 1e-05: encoder resnet34 has no such option; leave it out",
        ),
        ("segformer", {"encoder": "mit_b0", "encoder_epsilon": 0}, "encoder_epsilon = 0: must be a number above 0"),
    ],
)
def test_wrong_common_arguments_are_named(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model(name, num_classes=2, **options)


def test_an_architecture_lists_the_options_that_it_supports():
    names = {name: [option.name for option in options_of(MODELS[name])] for name in ("fpn", "deeplabv3", "fcn8s")}
    common = ["num_classes", "encoder", "encoder_depth", "mean", "std", "dtype", "image_classes"]
    common += ["align_corners", "encoder_epsilon", "late_dilation"]
    assert names["fpn"] == [*common, "pyramid_channels", "segmentation_channels", "merge", "dropout"]
    assert names["fcn8s"] == [*common, "width", "dropout"]
    assert set(names["deeplabv3"]) - set(common) == {
        "output_stride", "auxiliary_head", "auxiliary_channels", "decoder_channels", "atrous_rates", "separable",
        "dropout",
    }  # fmt: skip
    defaults = {option.name: option.default for option in options_of(MODELS["fcn8s"])}
    assert (defaults["encoder"], defaults["encoder_depth"], defaults["width"]) == ("vgg16", 5, 4096)


def test_lists_are_taken_as_tuples():
    model = build_model("unet", num_classes=2, encoder_depth=3, decoder_channels=[32, 16, 8])
    assert hash(model) == hash(build_model("unet", num_classes=2, encoder_depth=3, decoder_channels=(32, 16, 8)))
