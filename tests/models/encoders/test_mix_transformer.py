import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.errors import ArgumentError
from flaxseg.models.encoders import make_encoder
from flaxseg.models.encoders.mix_transformer import MixTransformer, _Attention

TINY = ((4, 8, 10, 16), (1, 2, 1, 1))
"""Channels and blocks of a network that is quick to compile."""


def test_attention_by_hand():
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 2, 3, 4)))
    module = _Attention(2, 1, jnp.float32)
    out, variables = compiled(module.init_with_output)(jax.random.key(1), x)
    weights = jax.tree.map(np.asarray, variables["params"])
    # With their small initial values, every pixel would attend to all pixels equally.
    weights = {name: {"kernel": 50 * w["kernel"], "bias": w["bias"] + 0.5} for name, w in weights.items()}
    pixels = x.reshape(6, 4)
    q, kv = (pixels @ weights[name]["kernel"] + weights[name]["bias"] for name in ("q", "kv"))
    heads = []
    for columns in (slice(0, 2), slice(2, 4)):
        logits = q[:, columns] @ kv[:, :4][:, columns].T / np.sqrt(2)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        heads.append(shares @ kv[:, 4:][:, columns])
    expected = np.concatenate(heads, 1) @ weights["proj"]["kernel"] + weights["proj"]["bias"]
    out = compiled(module.apply)({"params": weights}, x)
    np.testing.assert_allclose(out.reshape(6, 4), expected, rtol=1e-5, atol=1e-5)


def test_attention_has_float32_logits_in_bfloat16():
    module, x = _Attention(1, 1, jnp.bfloat16), jnp.zeros((1, 4, 4, 4), jnp.bfloat16)
    variables = compiled(module.init)(jax.random.key(0), x)
    assert compiled(module.apply)(variables, x).dtype == jnp.bfloat16
    assert re.findall(r"(\w+)\[[\d,]+,16\] = exp ", str(jax.make_jaxpr(module.apply)(variables, x))) == ["f32"]


def test_an_image_smaller_than_the_key_kernel_has_one_key():
    x = jax.random.normal(jax.random.key(0), (1, 2, 3, 4))
    module = _Attention(1, 8, jnp.float32)
    out, variables = compiled(module.init_with_output)(jax.random.key(1), x)
    # All pixels attend to the only key.
    np.testing.assert_allclose(out, jnp.broadcast_to(out[:, :1, :1], out.shape), rtol=1e-6)
    assert np.any(out)
    reduce = variables["params"]["reduce"]
    reduce["kernel"] = reduce["kernel"].at[2:].set(1).at[:, 3:].set(1)
    np.testing.assert_array_equal(compiled(module.apply)(variables, x), out)


def test_features_have_strides_of_4_to_32():
    encoder = make_encoder("mit_b0", dtype=jnp.bfloat16)
    init = functools.partial(encoder.init_with_output, train=False)
    features, _ = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 96, 4), jnp.float32))
    assert [feature.shape[1:] for feature in features[1:]] == [
        (32, 48, 0),
        (16, 24, 32),
        (8, 12, 64),
        (4, 6, 160),
        (2, 3, 256),
    ]
    with pytest.raises(ArgumentError, match="output_stride = 16: encoder mit_b0 supports 32"):
        make_encoder("mit_b0", output_stride=16, dtype=jnp.float32)


def test_later_blocks_have_a_higher_stochastic_depth_rate():
    encoder, rates = MixTransformer(*TINY, depth=4), []

    def noting(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            rates.append(context.module.rate)
            assert (context.module.broadcast_dims, context.module.deterministic) == ((1, 2, 3), False)
        return call(*args, **kwargs)

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(noting):
        init = functools.partial(encoder.init, train=True)
        jax.eval_shape(init, keys, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    # Two dropouts in each of the first four of five blocks.
    np.testing.assert_allclose(rates, [0, 0, 0.025, 0.025, 0.05, 0.05, 0.075, 0.075])
