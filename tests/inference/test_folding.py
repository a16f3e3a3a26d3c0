"""Folded networks compute what the networks compute, and normalize nothing after their convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported_networks import ENCODERS, SMALL, as_if_trained
from representatives import representatives

from flaxseg.inference.folding import fold_batch_norm
from flaxseg.models import build_model
from flaxseg.models.layers.conv import ConvNormAct


def test_a_block_by_hand():
    block = ConvNormAct(1, 1, epsilon=0.25, use_bias=True, activation=lambda x: x)
    variables = {
        "params": {
            "conv": {"kernel": jnp.full((1, 1, 2, 1), 3.0), "bias": jnp.full(1, 5.0)},
            "norm": {"scale": jnp.full(1, 4.0), "bias": jnp.full(1, 7.0)},
        },
        "batch_stats": {"norm": {"mean": jnp.full(1, 1.0), "var": jnp.full(1, 3.75)}},
    }
    _, folded = fold_batch_norm(block, variables, 2)
    # The scale is 4 / sqrt(3.75 + 0.25) = 2.
    np.testing.assert_array_equal(folded["params"]["conv"]["kernel"], np.full((1, 1, 2, 1), 6))
    assert folded["params"]["conv"]["bias"] == 10 and folded["params"]["norm"]["bias"] == 7 - 1 * 2
    model, _ = fold_batch_norm(block, variables, 2)
    x = jnp.ones((1, 1, 1, 2))
    assert model.apply(folded, x, train=False) == block.apply(variables, x, train=False) == 6 + 6 + 10 + 5


def check(name, options):
    model = build_model(name, num_classes=3, **options)
    image = jax.random.normal(jax.random.key(0), (1, 64, 96, 3))
    made = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), image)
    variables = as_if_trained(made)
    folded, its = fold_batch_norm(model, variables, 3)
    programs = [
        jax.jit(functools.partial(network.apply, train=False)).lower(given, image)
        for network, given in ((model, variables), (folded, its))
    ]
    expected, found = (
        program.compile()(given, image) for program, given in zip(programs, (variables, its), strict=True)
    )
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    # These normalize elsewhere.
    assert bool(folded.blocks) == (name not in ("segformer", "resunet", "eomt", "linear"))
    texts = [program.as_text() for program in programs]
    assert texts[0].count("stablehlo.rsqrt") - texts[1].count("stablehlo.rsqrt") == len(folded.blocks)


@pytest.mark.parametrize("name", representatives(SMALL, {"plain_unet"}))
def test_a_folded_network_computes_the_same(name):
    check(name, SMALL[name])


@pytest.mark.long
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name not in ("convnext_tiny", "mit_b0", "vgg11")])
def test_a_folded_network_of_any_encoder_computes_the_same(encoder):
    check("unet", {"encoder": encoder})
