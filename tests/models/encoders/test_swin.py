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
from flaxseg.models.encoders.swin import (
    SwinTransformer,
    WindowAttention,
    _PatchMerging,
    relative_position_index,
    window_parts,
)
from flaxseg.models.pretrained.torch_names import convert_tensors

TINY = (4, (1, 2, 1, 1), (1, 2, 2, 4), 2)
"""Channels, blocks, heads and window of a network that is quick to compile."""


def test_relative_positions_by_hand():
    # Pixels 0 and 1 are above 2 and 3. The offsets (-1, -1), (-1, 0), (-1, 1), (0, -1), ... have the rows 0, 1, 2, ...
    np.testing.assert_array_equal(relative_position_index(2), [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]])


def test_parts_of_shifted_windows_by_hand():
    # Columns 0 to 3 of the shifted image are the columns 1, 2, 3 and 0 of the image.
    np.testing.assert_array_equal(window_parts((2, 2), 2, 1), [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 2, 2], [0, 1, 2, 3]])


@pytest.mark.parametrize(("size", "window", "shift"), [((4, 6), 2, 1), ((5, 4), 3, 1), ((5, 4), 3, 0), ((2, 3), 4, 2)])
def test_attention_equals_that_of_each_pixel_by_itself(size, window, shift):
    heads, channels = 2, 4
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, *size, channels)))
    module = WindowAttention(heads, window, shift)
    weights = jax.tree.map(np.asarray, jax.jit(module.init)(jax.random.key(1), x)["params"])
    # With their small initial values, every pixel would attend to all pixels of its window equally.
    weights = {
        "qkv": {"kernel": 30 * weights["qkv"]["kernel"], "bias": np.linspace(-1, 1, 3 * channels)},
        "proj": {"kernel": 30 * weights["proj"]["kernel"], "bias": np.linspace(-1, 1, channels)},
        "bias_table": 50 * weights["bias_table"],
    }
    expected = np.zeros_like(x[0])
    for y, x_ in np.ndindex(*size):
        expected[y, x_] = _attended(x[0], (y, x_), weights, window=window, shift=shift, heads=heads)
    out = jax.jit(module.apply)({"params": weights}, x)
    np.testing.assert_allclose(out[0], expected, rtol=1e-5, atol=1e-5)


def _attended(image, place, weights, *, window, shift, heads):
    """Returns the output of one pixel, computed from the pixels that are in the same window before the shift."""
    height, width, channels = image.shape
    padded = [-(-side // window) * window for side in (height, width)]
    # The image starts in the middle of a window, and pixels beyond it are 0; beyond those, there is nothing.
    numbers = [(position - shift) // window for position in place]
    pixels = [
        (y, x)
        for y in range(numbers[0] * window + shift, (numbers[0] + 1) * window + shift)
        for x in range(numbers[1] * window + shift, (numbers[1] + 1) * window + shift)
        if 0 <= y < padded[0] and 0 <= x < padded[1]
    ]
    values = [image[y, x] if y < height and x < width else np.zeros(channels) for y, x in pixels]
    keys = np.array(values) @ weights["qkv"]["kernel"] + weights["qkv"]["bias"]
    query = image[place] @ weights["qkv"]["kernel"] + weights["qkv"]["bias"]
    offsets = [(place[0] - y + window - 1) * (2 * window - 1) + place[1] - x + window - 1 for y, x in pixels]
    size, found = channels // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = keys[:, channels : 2 * channels][:, part] @ query[:channels][part] / np.sqrt(size)
        scores = np.exp(scores + weights["bias_table"][offsets, head])
        found.append(scores / scores.sum() @ keys[:, 2 * channels :][:, part])
    return np.concatenate(found) @ weights["proj"]["kernel"] + weights["proj"]["bias"]


def test_scores_are_float32_in_bfloat16():
    module, x = WindowAttention(1, 2, 1, jnp.bfloat16), jnp.zeros((1, 4, 4, 4), jnp.bfloat16)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    assert compiled(module.apply)(variables, x).dtype == jnp.bfloat16
    assert re.findall(r"(\w+)\[[\d,]+,4\] = exp ", str(jax.make_jaxpr(module.apply)(variables, x))) == ["f32"]


def test_patches_are_merged_column_by_column():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    module = _PatchMerging(jnp.float32)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    # Pixels 0, 1, 4 and 5 are merged to one; each row of the kernel picks one of the four.
    picked = {"kernel": jnp.asarray([[1.0, 0], [0, 1], [0, 0], [0, 0]])}
    first = jax.jit(module.apply)({"params": {**variables["params"], "reduce": picked}}, x)[0, 0, 0]
    values = np.array([0, 4, 1, 5])
    np.testing.assert_allclose(first, ((values - 2.5) / values.std())[:2], rtol=1e-5)


def test_features_have_strides_of_4_to_32():
    encoder = make_encoder("swin_tiny_patch4_window7_224", dtype=jnp.bfloat16)
    init = functools.partial(encoder.init_with_output, train=False)
    features, _ = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 96, 4), jnp.float32))
    assert [feature.shape[1:] for feature in features[1:]] == [
        (32, 48, 0),
        (16, 24, 96),
        (8, 12, 192),
        (4, 6, 384),
        (2, 3, 768),
    ]
    with pytest.raises(ArgumentError, match="output_stride = 16: encoder swin_tiny_patch4_window7_224 supports 32"):
        make_encoder("swin_tiny_patch4_window7_224", output_stride=16, dtype=jnp.float32)


def test_every_second_block_has_shifted_windows_and_later_blocks_a_higher_stochastic_depth_rate():
    encoder, rates, shifts = SwinTransformer(*TINY, depth=4), [], []

    def noting(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            rates.append(context.module.rate)
            assert (context.module.broadcast_dims, context.module.deterministic) == ((1, 2, 3), False)
        elif isinstance(context.module, WindowAttention) and context.method_name == "__call__":
            shifts.append(context.module.shift)
        return call(*args, **kwargs)

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with nn.intercept_methods(noting):
        init = functools.partial(encoder.init, train=True)
        jax.eval_shape(init, keys, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    # Two dropouts in each of the first four of five blocks.
    np.testing.assert_allclose(rates, [0, 0, 0.05, 0.05, 0.1, 0.1, 0.15, 0.15])
    assert shifts == [0, 0, 1, 0]


def test_every_parameter_of_a_block_learns():
    x = jax.random.normal(jax.random.key(0), (1, 3, 5, 4))
    module = WindowAttention(2, 2, 1)
    variables = jax.jit(module.init)(jax.random.key(1), x)
    gradients = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(3 * module.apply(v, x)))))(variables)
    # The softmax is the same for all biases of keys that are equal.
    gradients["params"]["qkv"]["bias"] = jnp.delete(gradients["params"]["qkv"]["bias"], jnp.arange(4, 8))
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(gradient != 0), path


def test_names_of_published_files_and_of_feature_extractors_are_equivalent():
    names = ["patch_embed.proj.weight", "layers{}1.downsample.reduction.weight", "layers{}2.blocks.10.mlp.fc1.weight"]
    names += ["layers{}0.blocks.1.attn.relative_position_bias_table", "layers{}0.blocks.1.attn.qkv.bias"]
    unused = ["head.fc.weight", "norm.weight", "layers.0.blocks.1.attn_mask"]
    unused.append("layers.0.blocks.1.attn.relative_position_index")
    paths = []
    for separator in "._":
        tensors = {name.format(separator): np.zeros((1, 1)) for name in [*names, *unused]}
        found, unknown = convert_tensors(tensors, SwinTransformer.torch_names)
        assert not unknown
        paths.append(list(found))
    assert (
        paths[0]
        == paths[1]
        == [
            "params/stem/conv/kernel",
            "params/stage1_merge/reduce/kernel",
            "params/stage2_block10/expand/kernel",
            "params/stage0_block1/attention/bias_table",
            "params/stage0_block1/attention/qkv/bias",
        ]
    )
