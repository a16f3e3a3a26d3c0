import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.manet import Fusion, MANetDecoder, PositionAttention


def test_attention_weights_of_all_pairs_of_pixels_sum_to_one():
    module = PositionAttention(2, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 4))
    params = jax.jit(module.init)(jax.random.key(1), x)["params"]
    # All pairs have the same weight, and all values are 5: a sixth is added to each pixel. `out` is the identity.
    params = jax.tree.map(jnp.zeros_like, params)
    params["bottom"]["bias"] = jnp.full(4, 5.0)
    params["out"]["kernel"] = params["out"]["kernel"].at[1, 1].set(jnp.eye(4))
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, x), x + 5 / 6, rtol=1e-6)


def test_attended_pixels_are_laid_out_as_in_the_reference():
    module = PositionAttention(1, jnp.float32)
    x = jnp.arange(6.0).reshape(1, 1, 3, 2)  # pixels (0, 1), (2, 3), (4, 5)
    params = jax.tree.map(jnp.zeros_like, jax.jit(module.init)(jax.random.key(1), x)["params"])
    # Scores are 100 times the products of the pixels' first channels, so that the last pixel with itself has all of the
    # weight: the values (0, 0), (0, 0), (4, 5) are added, reinterpreted as the channels (0, 0, 0) and (0, 4, 5).
    for name in ("center", "top"):
        params[name]["kernel"] = jnp.asarray([10.0, 0.0]).reshape(1, 1, 2, 1)
    for name in ("bottom", "out"):
        params[name]["kernel"] = params[name]["kernel"].at[1, 1].set(jnp.eye(2))
    expected = x + jnp.asarray([[0.0, 0], [0, 4], [0, 5]]).reshape(1, 1, 3, 2)
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, x), expected, atol=1e-5)


def test_the_gates_of_both_maps_are_added():
    module = Fusion(6, jnp.float32)
    coarse, fine = (jax.random.normal(jax.random.key(i), (1, 2 * i, 2 * i, 4 * i)) for i in (1, 2))
    variables = jax.jit(functools.partial(module.init, train=False))(jax.random.key(3), coarse, fine)

    @jax.jit
    def fused(coarse_bias, fine_bias):
        gates = {
            f"{name}_gate": jax.tree.map(jnp.zeros_like, variables["params"][f"{name}_gate"])
            for name in ("coarse", "fine")
        }
        gates["coarse_gate"]["expand"]["bias"] += coarse_bias
        gates["fine_gate"]["expand"]["bias"] += fine_bias
        return module.apply({**variables, "params": variables["params"] | gates}, coarse, fine, train=False)

    half_and_half = fused(0.0, 0.0)
    assert half_and_half.shape == (1, 4, 4, 6)
    np.testing.assert_allclose(fused(50.0, -50.0), half_and_half, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fused(-50.0, 50.0), half_and_half, rtol=0, atol=1e-5)
    assert np.abs(fused(50.0, 50.0) - half_and_half).max() > 1e-2


@pytest.mark.parametrize(("channels", "fused"), [((3, 4, 8, 16), 2), ((3, 0, 8, 16), 1)])
def test_only_features_with_channels_are_fused(channels, fused):
    features = [jax.ShapeDtypeStruct((1, 8 >> i, 8 >> i, c), jnp.float32) for i, c in enumerate(channels)]
    init = functools.partial(MANetDecoder((8, 6, 4)).init_with_output, train=False)
    x, variables = jax.eval_shape(init, jax.random.key(0), features)
    assert x.shape == (1, 8, 8, 4)
    assert sum("fine_gate" in block for block in variables["params"].values()) == fused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_depth": 3}, r"decoder_channels = \(256, 128, 64, 32, 16\): must be 3 integers"),
        ({"attention_channels": 0}, "attention_channels = 0: must be an integer of at least 1"),
        ({"encoder": "resnet19"}, "encoder = 'resnet19': unknown"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("manet", **{"num_classes": 3} | options)
