import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.pspnet import PSPDecoder

FEATURE = jax.random.normal(jax.random.key(0), (2, 6, 6, 8))


@pytest.mark.parametrize(
    ("options", "stride"),
    [
        ({}, 8),
        ({"encoder": "mit_b0"}, 8),
        ({"encoder_depth": 4}, 16),
        ({"encoder_depth": 5, "output_stride": 8, "auxiliary_head": True, "use_batchnorm": False}, 8),
    ],
)
def test_output_strides_and_auxiliary_head(options, stride):
    model = build_model("pspnet", num_classes=2, **{"encoder": "resnet18", "dtype": jnp.bfloat16} | options)
    x = jax.ShapeDtypeStruct((1, 33, 47, 4), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    logits, variables = jax.eval_shape(functools.partial(model.init_with_output, train=True), keys, x)
    assert model.stride == stride
    assert (logits.shape, logits.dtype) == ((1, 33, 47, 2), jnp.float32)
    auxiliary = [logits.shape for logits in jax.tree.leaves(variables.get("auxiliary", {}))]
    assert auxiliary == ([(1, 33, 47, 2)] if options.get("auxiliary_head") else [])


def test_dropout_drops_whole_channels():
    decoder = PSPDecoder(64, dropout=0.5)
    variables = compiled(decoder.init)(jax.random.key(1), [FEATURE], train=False)
    rngs = {"dropout": jax.random.key(3)}
    dropped, _ = compiled(decoder.apply)(variables, [FEATURE], train=True, mutable=["batch_stats"], rngs=rngs)
    whole, _ = compiled(PSPDecoder(64, dropout=0.0).apply)(variables, [FEATURE], train=True, mutable=["batch_stats"])
    gone = np.all(dropped == 0, axis=(1, 2), keepdims=True)
    assert 40 < gone.sum() < 88
    np.testing.assert_allclose(dropped, np.where(gone, 0, 2 * whole), rtol=1e-6)


def test_the_mean_of_the_whole_map_is_not_normalized():
    normalized, plain = (
        compiled(PSPDecoder(16, use_batchnorm=norm).init)(jax.random.key(1), [FEATURE], train=False)
        for norm in (True, False)
    )
    assert plain.keys() == {"params"}
    assert normalized["batch_stats"].keys() == {"grid1", "grid2", "grid3", "fuse"}
    assert set(normalized["params"]["grid0"]["conv"]) == {"kernel", "bias"}
    assert set(normalized["params"]["grid1"]["conv"]) == {"kernel"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vgg16", "output_stride": 8}, "output_stride = 8: encoder vgg16 cannot be dilated to it"),
        ({"output_stride": 4}, "output_stride = 4: this architecture supports 8, 16, 32"),
        ({"use_batchnorm": "batch"}, "use_batchnorm = 'batch': must be True or False"),
        ({"dropout": -0.1}, r"dropout = -0\.1: must be a number of at least 0 and below 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("pspnet", num_classes=3, **options)
