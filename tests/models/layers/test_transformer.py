import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.models.layers.positions import rotated, rotation
from flaxseg.models.layers.transformer import SelfAttention, TransformerBlock


def random_variables(module, *args, **kwargs):
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: draw.normal(0, 0.7, leaf.shape).astype(np.float32), shapes)


def slow_attention(tokens, params, *, heads, allowed):
    """Returns tokens [N, C] of tokens [N, C], one token and head at a time."""
    count, width = tokens.shape
    each = width // heads
    qkv = tokens @ params["qkv"]["kernel"] + params["qkv"].get("bias", 0)
    if "query_bias" in params:
        qkv = qkv + np.concatenate([params["query_bias"], np.zeros(width), params["value_bias"]])
    joined = np.zeros((count, width))
    for head in range(heads):
        query, key, value = (qkv[:, part * width + head * each :][:, :each] for part in range(3))
        for token in range(count):
            scores = [query[token] @ key[other] / math.sqrt(each) for other in range(count)]
            weights = np.exp(scores) * allowed[token]
            joined[token, head * each : (head + 1) * each] = weights / weights.sum() @ value
    return joined @ params["proj"]["kernel"] + params["proj"]["bias"]


@pytest.mark.parametrize("qkv_bias", ["all", "query_value", "none"])
def test_attention_equals_a_slow_reference(qkv_bias):
    x = np.random.default_rng(1).normal(size=(1, 5, 8)).astype(np.float32)
    module = SelfAttention(2, qkv_bias)
    variables = random_variables(module, jnp.asarray(x))
    allowed = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1]], bool)
    for mask in (None, jnp.asarray(allowed)[None, None]):
        found = compiled(module.apply)(variables, x, mask=mask)
        used = np.ones((5, 5)) if mask is None else allowed
        expected = slow_attention(x[0], variables["params"], heads=2, allowed=used)
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_attention_rotates_queries_and_keys_but_no_values():
    x = np.random.default_rng(1).normal(size=(1, 3, 4)).astype(np.float32)
    module, turn = SelfAttention(1, "none"), rotation((1, 2), 4)
    variables = random_variables(module, jnp.asarray(x))
    query, key, value = np.split(x[0] @ variables["params"]["qkv"]["kernel"], 3, -1)
    query, key = (np.asarray(rotated(jnp.asarray(each)[None, :, None], turn))[0, :, 0] for each in (query, key))
    scores = np.exp(query @ key.T / 2)
    expected = scores / scores.sum(1, keepdims=True) @ value @ variables["params"]["proj"]["kernel"]
    found = compiled(module.apply)(variables, x, turn)[0] - variables["params"]["proj"]["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_scale", [0.0, 0.5])
def test_a_block_of_one_token_by_hand(layer_scale):
    x = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    block, tokens = TransformerBlock(2, layer_scale), jnp.asarray(x)[None, None]
    variables = compiled(block.init)(jax.random.key(0), tokens, train=False)
    params = variables["params"]
    normal = lambda y: (y - y.mean()) / np.sqrt(y.var() + 1e-6)  # noqa: E731
    # A single token attends to itself only: its value.
    factor = layer_scale or 1
    y = x + factor * (normal(x) @ params["attention"]["qkv"]["kernel"][:, 8:] @ params["attention"]["proj"]["kernel"])
    inner = jax.nn.gelu(normal(y) @ params["mlp"]["expand"]["kernel"], approximate=False)
    expected = y + factor * (inner @ params["mlp"]["project"]["kernel"])
    assert ("scale1" in params) is bool(layer_scale)
    np.testing.assert_allclose(
        compiled(block.apply)(variables, tokens, train=False)[0, 0], expected, rtol=1e-5, atol=1e-6
    )


def test_stochastic_depth_drops_whole_images():
    block, x = TransformerBlock(1, drop_path_rate=0.5), jax.random.normal(jax.random.key(0), (32, 3, 4))
    variables = random_variables(block, x, train=False)
    found = compiled(block.apply)(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    untouched = np.all(np.asarray(found == x), axis=(1, 2))
    # Both branches are dropped for a quarter of the images; no image has single tokens that stay the same.
    assert 2 <= untouched.sum() <= 16
    assert not np.any(np.all(np.asarray(found == x), axis=2) & ~untouched[:, None])
    np.testing.assert_array_equal(
        compiled(block.apply)(variables, x, train=False), compiled(block.apply)(variables, x, train=False)
    )


def test_scores_are_float32_in_bfloat16():
    block, x = TransformerBlock(2, dtype=jnp.bfloat16), jnp.ones((1, 3, 4), jnp.bfloat16)
    variables = compiled(block.init)(jax.random.key(0), x, train=False)
    assert compiled(block.apply)(variables, x, train=False).dtype == jnp.bfloat16
    assert isinstance(block, nn.Module)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
