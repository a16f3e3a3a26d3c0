import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.models.encoder_decoder import EncoderDecoder
from flaxseg.models.layers import Conv, ConvNormAct


class SmallEncoder(nn.Module):
    output_stride: int = 2

    @nn.compact
    def __call__(self, x, *, train):
        return [x, ConvNormAct(4, stride=2)(x, train=train)]


class SmallDecoder(nn.Module):
    @nn.compact
    def __call__(self, features, *, train):
        return Conv(3)(jnp.repeat(jnp.repeat(features[-1], 2, 1), 2, 2))


def network(**options):
    return EncoderDecoder(3, "small", SmallEncoder(), SmallDecoder(), 0.0, 1.0, jnp.float32, **options)


PICTURE = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))


def initialised(model):
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), PICTURE)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_gets_no_gradient_and_keeps_its_statistics(frozen):
    model = network(frozen=frozen)
    variables = initialised(model)

    def loss(params):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, updates = model.apply(given, PICTURE, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits)), updates["batch_stats"]

    gradients, statistics = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    learns = jax.tree.map(lambda gradient: bool(np.any(gradient)), gradients)
    assert set(jax.tree.leaves(learns["encoder"])) == {not frozen}
    assert set(jax.tree.leaves((learns["decoder"], learns["head"]))) == {True}
    for old, new in zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(statistics), strict=True):
        assert np.any(old != new) == (not frozen)


def test_without_a_head_the_decoder_gives_the_logits():
    model = network(head_kernel_size=0)
    variables = initialised(model)
    assert set(variables["params"]) == {"encoder", "decoder"}
    assert set(initialised(network())["params"]) == {"encoder", "decoder", "head"}
    padded = jnp.pad(PICTURE, ((0, 0), (0, 1), (0, 1), (0, 0)))
    parts = [{name: tree[part] for name, tree in variables.items() if part in tree} for part in ("encoder", "decoder")]
    expected = SmallDecoder().apply(parts[1], SmallEncoder().apply(parts[0], padded, train=False), train=False)
    logits = model.apply(variables, PICTURE, train=False)
    np.testing.assert_allclose(logits, expected[:, :5, :7], rtol=0, atol=1e-6)
