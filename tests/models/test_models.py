"""What every network of the table keeps to. A new one is added to NETWORKS, and inherits all of it."""

import functools
import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.models import MODELS
from flaxseg.models.encoders import ENCODERS
from flaxseg.train import sharding

SMALL_ENCODER = {"encoder": "resnet18"}
SHALLOW_ENCODER = SMALL_ENCODER | {"encoder_depth": 3}

NETWORKS = {
    "plain unet": ("unet", {"width": 4, "depth": 2}),
    "attention_unet": ("attention_unet", {"width": 4, "depth": 2}),
    "resunet": ("resunet", {"width": 4, "depth": 2}),
    "unet": ("unet", SMALL_ENCODER | {"decoder_channels": (32, 16, 16, 8, 8)}),
    "fcn8s": ("fcn8s", SMALL_ENCODER | {"width": 8}),
    "unet_mobilenet": ("unet_mobilenet", {}),
    "fpn": ("fpn", SMALL_ENCODER),
    "pspnet": ("pspnet", SMALL_ENCODER),
    "unetplusplus": ("unetplusplus", SHALLOW_ENCODER | {"decoder_channels": (32, 16, 8)}),
    "manet": ("manet", SHALLOW_ENCODER | {"decoder_channels": (32, 16, 8)}),
    **{
        name: (name, SHALLOW_ENCODER)
        for name in ("deeplabv3", "deeplabv3plus", "linknet", "pan", "upernet", "segformer")
    },
}
"""The function's name, and options that make each network quick to compile."""

WITHOUT_GRADIENT = {
    "linknet": r"decoder/.*/conv/bias",
    "pan": r"decoder/.*/conv/bias",
    "segformer": r"decoder/linear\d/bias",
    "upernet": r"decoder/feature_norm\d/bias",
}
"""Biases that their references have before a batch normalization, which takes them out again but for rounding."""

NUM_CLASSES = 5

BATCH = (4, 34, 15, 3)
"""Neither height nor width is a multiple of a stride, and rows and examples can be shared among devices."""


BATCH_STATISTICS_OVER_DEVICES = ("plain unet", "unet")
"""Networks whose gradients over devices are compared in training mode. In that of the others, statistics over the few
values that small pictures leave make more of rounding than there is to compare."""

TOLERANCE = 1e-4
"""Relative, of gradients."""


def build(name, **options):
    function, small = NETWORKS[name]
    return MODELS[function](num_classes=NUM_CLASSES, **small | options)


def pictures(*shape):
    return jax.random.normal(jax.random.key(5), shape)


@functools.cache
def compiled_init(name):
    return jax.jit(functools.partial(build(name).init, train=False))


@functools.cache
def variables_of(name, seed=1):
    return compiled_init(name)(jax.random.key(seed), pictures(1, 8, 8, 3))


def loss_and_grads(model, *, train=True):
    """Jitted, of (params, batch_stats, pictures): ((loss, updates), gradients)."""

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
    return compiled(name, train=train)(variables["params"], variables.get("batch_stats", {}), pictures(*BATCH))


def test_every_network_is_tested():
    assert {function for function, _ in NETWORKS.values()} == set(MODELS)


@pytest.fixture(params=list(NETWORKS))
def name(request):
    return request.param


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (64, 2)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_logits_are_float32_at_the_pictures_resolution(name, size, channels):
    for dtype in (jnp.float32, jnp.bfloat16):
        model = build(name, dtype=dtype)
        x = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
        logits, _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), x)
        assert (logits.shape, logits.dtype) == ((2, *size, NUM_CLASSES), jnp.float32)


def test_attributes(name):
    model = build(name, mean=(1, 2, 3), std=[4.0, 5.0, 6.0])
    assert (model.num_classes, model.mean, model.std) == (NUM_CLASSES, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    own = ENCODERS[build(name).encoder_name] if hasattr(build(name), "encoder_name") else None
    expected = (own.mean, own.std) if own else (127.5, 127.5)
    assert (build(name).mean, build(name).std, build(name).dtype) == (*expected, jnp.float32)
    assert model.stride >= 1
    # jit takes networks as static arguments.
    assert hash(build(name)) == hash(build(name))


def test_every_parameter_is_float32_and_learns(name):
    (loss, updates), gradients = run(name)
    assert np.isfinite(loss)
    still = set()
    for path, gradient in flax.traverse_util.flatten_dict(gradients, sep="/").items():
        assert gradient.dtype == jnp.float32, path
        assert np.isfinite(gradient).all(), path
        if not np.any(gradient) and not re.fullmatch(WITHOUT_GRADIENT.get(name, ""), path):
            still.add(path)
    # A map of one channel and few pixels, as PAN has, may be all 0 after its ReLU with one draw of the parameters.
    for seed in range(2, 6) if still else ():
        others = flax.traverse_util.flatten_dict(run(name, seed=seed)[1], sep="/")
        still -= {path for path in still if np.any(others[path])}
    assert not still
    before = variables_of(name).get("batch_stats", {})
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(updates.get("batch_stats", {})), strict=True):
        assert np.any(old != new)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "plain unet" else pytest.mark.long) for name in NETWORKS],
)
def test_a_sharded_batch_gives_one_devices_gradients(name):
    mesh = sharding.make_mesh(data=4, spatial=2)
    variables = jax.device_put(variables_of(name), sharding.replicated(mesh))
    spread = jax.device_put(pictures(*BATCH), sharding.batch_sharding(mesh))
    train = name in BATCH_STATISTICS_OVER_DEVICES
    whole = loss_and_grads(sharding.gathered(build(name), mesh), train=train)
    sharded = whole(variables["params"], variables.get("batch_stats", {}), spread)
    for a, b in zip(jax.tree.leaves(run(name, train=train)), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1e-2, np.abs(a).max()))


def test_bfloat16_stays_near_float32(name):
    x = pictures(2, 16, 16, 3)
    predictions = [
        jax.jit(functools.partial(build(name, dtype=dtype).apply, train=False)) for dtype in (jnp.float32, jnp.bfloat16)
    ]
    exact, rounded = (predict(variables_of(name), x) for predict in predictions)
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    for predict in predictions:
        predict(variables_of(name), -x)
        assert predict._cache_size() == 1, "compiled again for pictures of the same shape"


def test_the_input_size_of_initialization_does_not_matter(name):
    init = functools.partial(build(name).init, jax.random.key(1), train=False)
    trees = [jax.eval_shape(init, jax.ShapeDtypeStruct(shape, jnp.float32)) for shape in ((1, 8, 8, 3), (3, 9, 70, 3))]
    assert trees[0] == trees[1]
