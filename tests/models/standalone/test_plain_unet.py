import functools
import re

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import CLASSIC, plain_unet


def parameters(model, channels=3):
    """Returns the shapes of the parameters by name."""
    x = jax.ShapeDtypeStruct((1, 16, 16, channels), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    return {name: leaf.shape for name, leaf in flax.traverse_util.flatten_dict(variables["params"], sep="/").items()}


def test_default_parameters():
    shapes = parameters(plain_unet(num_classes=3))
    assert sum(map(np.prod, shapes.values())) == 7_763_107
    assert shapes["encoder/level4/block1/conv/kernel"] == (3, 3, 512, 512)
    assert shapes["decoder/level3/up/conv/kernel"] == (2, 2, 512, 256)
    assert shapes["decoder/level3/block0/conv/kernel"] == (3, 3, 512, 256)
    assert shapes["head/kernel"] == (1, 1, 32, 3)


def test_every_parameter_belongs_to_encoder_decoder_or_head():
    pattern = r"(encoder/level\d/block\d|decoder/level\d/(up|block\d)|head_block\d)/(conv|norm)/\w+|head/\w+"
    assert [name for name in parameters(plain_unet(num_classes=3, **CLASSIC)) if not re.fullmatch(pattern, name)] == []


def test_classic_options():
    shapes = parameters(plain_unet(num_classes=3, **CLASSIC))
    assert shapes["encoder/level4/block0/conv/kernel"] == (4, 4, 512, 512)
    assert shapes["head_block1/conv/kernel"] == (4, 4, 64, 64)
    small = plain_unet(num_classes=2, **CLASSIC | {"width": 4, "depth": 2})
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    variables = jax.jit(functools.partial(small.init, train=False))(jax.random.key(1), x)

    @jax.jit
    def train(key):
        return small.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})[0]

    first, second = train(jax.random.key(2)), train(jax.random.key(3))
    assert np.isfinite(first).all()
    assert np.any(first != second)
    np.testing.assert_array_equal(first, train(jax.random.key(2)))


@pytest.mark.parametrize(("lowest", "dropped"), [(0, 2), (1, 1), (2, 0)])
def test_decoder_dropout_applies_from_its_finest_level(lowest, dropped):
    model = plain_unet(num_classes=2, width=2, depth=2, decoder_dropout=0.5, decoder_dropout_from=lowest)
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)

    def train(variables, x, key):
        return model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": key})

    jaxpr = str(jax.make_jaxpr(train)(variables, x, jax.random.key(0)))
    assert jaxpr.count("random_bits") == dropped


@pytest.mark.parametrize("options", [{"norm": "group", "upsampling": "bilinear"}, {"norm": "none", "depth": 1}])
def test_other_options_give_logits(options):
    model = plain_unet(num_classes=2, **{"width": 4, "depth": 2} | options)
    x = jnp.ones((1, 6, 7, 1))
    logits, variables = jax.jit(functools.partial(model.init_with_output, train=False))(jax.random.key(0), x)
    assert logits.shape == (1, 6, 7, 2)
    assert np.isfinite(logits).all()
    assert "batch_stats" not in variables


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes = 0: must be an integer of at least 1"),
        ({"width": 2.5}, "width = 2.5: must be an integer of at least 1"),
        ({"depth": True}, "depth = True: must be an integer of at least 1"),
        ({"max_width": 0}, "max_width = 0: must be an integer of at least 1"),
        ({"kernel_size": 0}, "kernel_size = 0: must be an integer"),
        ({"norm": "bath"}, "norm = 'bath': must be one of 'batch', 'group', 'none'; did you mean 'batch'"),
        ({"activation": "rleu"}, "activation = 'rleu': must be one of 'relu', .*; did you mean 'relu'"),
        ({"upsampling": None}, "upsampling = None: must be one of 'transposed'"),
        ({"negative_slope": "steep"}, "negative_slope = 'steep': must be a finite number"),
        ({"decoder_dropout": 1.0}, "decoder_dropout = 1.0: must be a number of at least 0 and below 1"),
        ({"decoder_dropout_from": -1}, "decoder_dropout_from = -1: must be an integer of at least 0"),
        ({"head_convs": -1}, "head_convs = -1: must be an integer of at least 0"),
        ({"head_dropout": "x"}, "head_dropout = 'x': must be a number"),
        ({"mean": ()}, r"mean = \(\): must be a number, or one number for each channel"),
        ({"mean": (1.0, float("nan"))}, "mean = nan: must be a finite number"),
        ({"std": (1.0, 0.0)}, r"std = \(1.0, 0.0\): must be above 0"),
        ({"dtype": "float16"}, "dtype = 'float16': must be float32 or bfloat16"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        plain_unet(**{"num_classes": 3} | options)
