import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from flax import traverse_util

from flaxseg.errors import WeightsError
from flaxseg.models import unet
from flaxseg.models.encoders import ENCODERS, Encoder, make_encoder
from flaxseg.models.encoders.beit import BEiT, _Attention, _make, relative_position_index
from flaxseg.models.pretrained.load import put_tensors

TINY = (8, 2, 5, (1, 2, 3, 4), 2)
"""Channels, heads, blocks, blocks of the features and window of a network that is quick to compile."""


def test_relative_positions_by_hand():
    # Two patches have the offsets -1, 0 and 1 with the rows 0, 1 and 2. The class token is the first query and key.
    np.testing.assert_array_equal(jax.jit(lambda: relative_position_index((1, 2)))(), [[5, 3, 3], [4, 1, 0], [4, 2, 1]])
    # In two rows of two, the offset (0, 0) has row 4 of nine, and (-1, 1) has row 2.
    index = np.asarray(jax.jit(lambda: relative_position_index((2, 2)))())
    assert (index[1, 1], index[2, 3], index[3, 2], index[0, 0]) == (4, 2, 6, 11)


def attention(grid, window):
    """Returns an attention module, weights for it that are not small, and an input."""
    module = _Attention(2, grid, window, jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 1 + grid[0] * grid[1], 4)))
    shapes = jax.eval_shape(module.init, jax.random.key(1), x)["params"]
    rng = np.random.default_rng(0)
    return module, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes), x


def test_attention_by_hand():
    module, weights, x = attention((2, 3), 2)
    with_bias = {**weights, "bias_table": np.arange(24, dtype=np.float32).reshape(12, 2) / 10}
    module = _Attention(2, (2, 2), 2, jnp.float32)
    x = x[:, :5]
    bias = np.concatenate([weights["query_bias"], np.zeros(4), weights["value_bias"]])
    query, key, value = np.split(x[0] @ weights["qkv"]["kernel"] + bias, 3, axis=1)
    index, heads = np.asarray(jax.jit(lambda: relative_position_index((2, 2)))()), []
    for head, columns in enumerate((slice(0, 2), slice(2, 4))):
        scores = query[:, columns] @ key[:, columns].T / np.sqrt(2) + with_bias["bias_table"][index, head]
        scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        heads.append(scores @ value[:, columns])
    expected = np.concatenate(heads, 1) @ weights["proj"]["kernel"] + weights["proj"]["bias"]
    np.testing.assert_allclose(jax.jit(module.apply)({"params": with_bias}, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_biases_are_interpolated_for_other_numbers_of_patches():
    # One patch has only the offset 0, in the middle of the table for 2 x 2 patches; the class token has its own rows.
    module, weights, x = attention((1, 1), 2)
    one, one_weights, _ = attention((1, 1), 1)
    one_weights = {**weights, "bias_table": weights["bias_table"][[4, 9, 10, 11]]}
    expected = jax.jit(one.apply)({"params": one_weights}, x)
    np.testing.assert_allclose(jax.jit(module.apply)({"params": weights}, x), expected, rtol=1e-5, atol=1e-6)
    # With the same bias for every offset, the number of patches does not matter.
    table = np.concatenate([np.full((9, 2), 0.7), weights["bias_table"][9:]]).astype(np.float32)
    large, _, x = attention((3, 5), 2)
    unlike = _Attention(2, (3, 5), 1, jnp.float32)
    expected = jax.jit(unlike.apply)({"params": {**weights, "bias_table": table[8:]}}, x)
    np.testing.assert_allclose(
        jax.jit(large.apply)({"params": {**weights, "bias_table": table}}, x), expected, rtol=1e-5
    )


def test_scores_are_float32_in_bfloat16():
    module, x = _Attention(1, (2, 2), 2, jnp.bfloat16), jnp.zeros((1, 5, 4), jnp.bfloat16)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    assert compiled(module.apply)(variables, x).dtype == jnp.bfloat16
    assert re.findall(r"(\w+)\[[\d,]+,5\] = exp ", str(jax.make_jaxpr(module.apply)(variables, x))) == ["f32"]


def shapes_of(encoder, size=(32, 64), **options):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    init = functools.partial(encoder.init_with_output, **{"train": False} | options)
    return jax.eval_shape(init, keys, jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))


@pytest.mark.parametrize(("depth", "blocks"), [(3, 2), (4, 3), (5, 4)])
def test_the_blocks_up_to_the_last_feature_are_computed(depth, blocks):
    encoder = BEiT(*TINY, depth=depth)
    features, variables = shapes_of(encoder)
    strides = [4, 8, 16, 32][: depth - 1]
    assert [feature.shape[1:] for feature in features[2:]] == [(32 // s, 64 // s, 8) for s in strides]
    assert features[1].shape == (1, 16, 32, 0)
    names = set(variables["params"])
    assert names == {"stem", "class_token", "pyramid", *(f"block{number}" for number in range(blocks))}


def test_a_shallow_encoder_needs_whole_patches_too():
    assert make_encoder("beit_base_patch16_224", depth=3, dtype=jnp.float32).output_stride == 32


def test_later_blocks_have_a_higher_stochastic_depth_rate():
    rates = []

    def noting(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            rates.append(context.module.rate)
            assert (context.module.broadcast_dims, context.module.deterministic) == ((1, 2), False)
        return call(*args, **kwargs)

    with nn.intercept_methods(noting):
        shapes_of(BEiT(*TINY), train=True)
    # Two dropouts in each of the first four of five blocks.
    np.testing.assert_allclose(rates, [0, 0, 0.025, 0.025, 0.05, 0.05, 0.075, 0.075])


def tensors(width=8, window=2):
    """Returns the tensors of a tiny BEiT under timm's names; each has its own value."""
    shapes = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    for block in (f"blocks.{number}." for number in range(5)):
        vectors = ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias", "attn.proj.bias", "mlp.fc2.bias")
        vectors += tuple(f"norm{n}.{leaf}" for n in (1, 2) for leaf in ("weight", "bias"))
        shapes |= {block + name: (width,) for name in vectors}
        shapes |= {block + "attn.relative_position_bias_table": ((2 * window - 1) ** 2 + 3, 2)}
        shapes |= {block + "attn.qkv.weight": (3 * width, width), block + "attn.proj.weight": (width, width)}
        shapes |= {block + "mlp.fc1.weight": (4 * width, width), block + "mlp.fc1.bias": (4 * width,)}
        shapes |= {block + "mlp.fc2.weight": (width, 4 * width)}
        shapes |= {block + "attn.relative_position_index": (5, 5)}
    shapes |= {"fc_norm.weight": (width,), "head.weight": (10, width), "head.bias": (10,)}
    return {name: np.full(shape, number, np.float32) for number, (name, shape) in enumerate(shapes.items())}


@pytest.fixture
def network(monkeypatch):
    """A U-Net with a tiny BEiT of four of five blocks, and its variables."""
    entry = Encoder(
        functools.partial(_make, functools.partial(BEiT, *TINY)), None, output_strides=(32,), added="pyramid"
    )
    monkeypatch.setitem(ENCODERS, "tiny", entry)
    model = unet(num_classes=2, encoder="tiny", decoder_channels=(4,) * 5)
    return model, jax.tree.map(lambda leaf: np.full(leaf.shape, -1.0), shapes_of(model)[1])


def test_public_weights_lack_the_pyramid_which_is_kept(network):
    model, variables = network
    given = {name: value for name, value in tensors().items() if not name.startswith("blocks.4.")}
    loaded = put_tensors(variables, model, given, name="the file", partial=False)["params"]["encoder"]
    flat = traverse_util.flatten_dict(loaded, sep="/")
    still = {path for path, value in flat.items() if (value == -1).all()}
    assert still == {path for path in flat if path.startswith("pyramid/")} and still != set(flat)
    np.testing.assert_array_equal(flat["block3/attention/value_bias"], given["blocks.3.attn.v_bias"])
    np.testing.assert_array_equal(flat["block0/project/kernel"], given["blocks.0.mlp.fc2.weight"].T)


def test_a_part_of_the_pyramid_is_not_enough(network):
    model, variables = network
    given = {name: value for name, value in tensors().items() if not name.startswith("blocks.4.")}
    given |= {"fpn2.0.weight": np.zeros((8, 8, 2, 2)), "fpn2.0.bias": np.zeros(8)}
    with pytest.raises(WeightsError, match=r"in the network, but not in the file: .*pyramid/quadruple1"):
        put_tensors(variables, model, given, name="the file", partial=False)
