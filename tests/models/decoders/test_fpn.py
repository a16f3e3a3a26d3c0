import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.fpn import FPNDecoder

CHANNELS = (3, 4, 5, 6, 7, 8)


def pyramid():
    """Returns features of a 32x64 image."""
    keys = jax.random.split(jax.random.key(0), len(CHANNELS))
    return [jax.random.normal(keys[i], (2, 32 >> i, 64 >> i, c)) for i, c in enumerate(CHANNELS)]


@functools.cache
def variables():
    return jax.jit(functools.partial(FPNDecoder(8, 32).init, train=False))(jax.random.key(1), pyramid())


def maps(*, train=False, **options):
    apply = functools.partial(FPNDecoder(8, 32, **options).apply, train=train, rngs={"dropout": jax.random.key(2)})
    return np.asarray(jax.jit(apply)(variables(), pyramid()))


def test_added_maps_are_the_sum_of_the_concatenated_ones():
    added, joined = maps(merge="add"), maps(merge="cat")
    assert (added.shape, joined.shape) == ((2, 8, 16, 32), (2, 8, 16, 128))
    np.testing.assert_allclose(joined.reshape(2, 8, 16, 4, 32).sum(3), added, rtol=0, atol=1e-5)


def test_dropout_drops_whole_channels():
    whole, dropped = maps(), maps(dropout=0.25, train=True)
    kept = np.any(dropped, (1, 2))
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(dropped, whole * kept[:, None, None] / 0.75, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("depth", "upsampling", "finest"), [(3, 1, 3), pytest.param(4, 2, 64, marks=pytest.mark.long), (5, 4, 64)]
)
def test_the_pyramid_is_built_from_the_four_coarsest_features(depth, upsampling, finest):
    model = build_model("fpn", num_classes=2, encoder="resnet18", encoder_depth=depth)
    x = jax.ShapeDtypeStruct((1, 33, 47, 3), jnp.float32)
    init = functools.partial(model.init_with_output, train=False, capture_intermediates=True, mutable=True)
    logits, variables = jax.eval_shape(init, jax.random.key(0), x)
    assert logits.shape == (1, 33, 47, 2)
    (decoded,) = variables["intermediates"]["decoder"]["__call__"]
    padded = [-(-length // model.stride) * model.stride for length in (33, 47)]
    assert [length * upsampling for length in decoded.shape[1:3]] == padded
    assert variables["params"]["decoder"]["lateral3"]["kernel"].shape == (1, 1, finest, 256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_depth": 2}, "encoder_depth = 2: encoder resnet34 supports 3 or 4 or 5"),
        ({"encoder": "mit_b0", "encoder_depth": 4}, "encoder_depth = 4: must be 5 with encoder mit_b0, as the"),
        ({"segmentation_channels": 48}, "segmentation_channels = 48: must be a multiple of 32"),
        ({"pyramid_channels": 0}, "pyramid_channels = 0: must be an integer of at least 1"),
        ({"merge": "sum"}, "merge = 'sum': must be one of 'add', 'cat'"),
        ({"dropout": 1}, "dropout = 1: must be a number of at least 0 and below 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("fpn", **{"num_classes": 3} | options)
