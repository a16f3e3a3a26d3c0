import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.fcn import FCNDecoder


@pytest.mark.parametrize(("given", "channels"), [(0, 128), (24, 24)])
def test_the_channels_are_a_quarter_of_the_encoders_unless_given(given, channels):
    model = build_model("fcn", num_classes=2, encoder="resnet18", decoder_channels=given)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)["params"]
    assert params["decoder"]["reduce"]["conv"]["kernel"].shape == (3, 3, 512, channels)
    assert params["head"]["kernel"].shape == (1, 1, channels, 2)


def test_the_output_is_dropped_in_training():
    features = [jnp.ones((1, 8, 8, 8))]
    decoder = FCNDecoder(dropout=0.5)
    variables = compiled(decoder.init)(jax.random.key(0), features, train=False)
    whole = compiled(decoder.apply)(variables, features, train=False)
    variables = {**variables, "batch_stats": jax.tree.map(jnp.ones_like, variables["batch_stats"])}
    dropped, _ = compiled(decoder.apply)(
        variables, features, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
    )
    assert whole.shape == (1, 8, 8, 2)
    assert 0.2 < np.mean(np.asarray(dropped) == 0) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_channels": -1}, "decoder_channels = -1: must be an integer of at least 0"),
        ({"dropout": 1}, "dropout = 1: "),
        ({"output_stride": 4}, "output_stride = 4: this architecture supports 8, 16, 32"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("fcn", num_classes=2, **options)
