import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg import ops
from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.segformer import _Mixing


def test_projection_and_resizing_commute():
    shapes = [(1, 2, 3, 4), (1, 4, 6, 4), (1, 8, 12, 4)]
    maps = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    mixed, variables = compiled(_Mixing(5, (8, 12), jnp.float32).init_with_output)(jax.random.key(3), *maps)
    joined = jnp.concatenate([ops.resize_bilinear(x, (8, 12)) for x in maps], -1)
    np.testing.assert_allclose(mixed, ops.conv(joined, variables["params"]["kernel"]), atol=1e-5)


@pytest.mark.parametrize(("encoder", "layers"), [("resnet18", 5), ("mit_b0", 4)])
def test_every_feature_with_channels_is_projected(encoder, layers):
    model = build_model("segformer", num_classes=2, encoder=encoder, decoder_channels=8)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    decoder = variables["params"]["decoder"]
    assert sorted(decoder) == ["fuse", *(f"linear{i}" for i in range(layers))]
    assert decoder["linear0"]["kernel"].shape == (model.encoder.channels[-1], 8)
    assert decoder["fuse"]["conv"]["kernel"].shape == (1, 1, 8 * layers, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_channels": 0}, "decoder_channels = 0: must be an integer of at least 1"),
        ({"encoder": "mit_b9"}, "encoder = 'mit_b9': unknown"),
        ({"encoder_depth": 2}, "encoder_depth = 2: encoder resnet34 supports 3 or 4 or 5"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("segformer", **{"num_classes": 3} | options)
