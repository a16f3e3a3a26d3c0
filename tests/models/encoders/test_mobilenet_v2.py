import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.models.encoders import make_encoder
from flaxseg.models.encoders.mobilenet_v2 import MobileNetV2
from flaxseg.models.layers.normalization import BatchNorm


def run(module, size=64):
    """Returns the shapes of features and variables."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(module.init_with_output, train=False), jax.random.key(0), image)


def dilations(module):
    """Returns the options of the convolutions with a kernel larger than 1, in order."""
    found = []

    def record(call, args, kwargs, context):
        if context.module.name == "depthwise":
            found.append((context.module.stride, context.module.dilation))
        return call(*args, **kwargs)

    with flax.linen.intercept_methods(record):
        run(module)
    return found


@pytest.mark.parametrize(
    ("output_stride", "stage4", "stage6"),
    [
        pytest.param(32, (2, 1), (2, 1), marks=pytest.mark.long),
        pytest.param(16, (2, 1), (1, 2), marks=pytest.mark.long),
        (8, (1, 2), (1, 4)),
    ],
)
def test_strides_become_dilations(output_stride, stage4, stage6):
    found = dilations(make_encoder("mobilenet_v2", output_stride=output_stride, dtype=jnp.float32))
    assert found[:6] == [(1, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1)]
    assert found[6:13] == [stage4] + [(1, stage4[1])] * 6
    assert found[13:] == [stage6] + [(1, stage6[1])] * 3


def test_a_shallow_encoder_ends_before_the_next_stride():
    features, variables = run(make_encoder("mobilenet_v2", depth=4, dtype=jnp.float32))
    assert [feature.shape[1:] for feature in features[1:]] == [(32, 32, 16), (16, 16, 24), (8, 8, 32), (4, 4, 96)]
    assert set(variables["params"]) == {"stem", *(f"block{number}" for number in range(13))}


def test_expanded_features_come_from_inside_the_strided_blocks():
    module = MobileNetV2(expanded=True)
    features, variables = run(module)
    shapes = [(32, 32, 96), (16, 16, 144), (8, 8, 192), (4, 4, 576), (2, 2, 320)]
    assert [feature.shape[1:] for feature in features[1:]] == shapes
    assert module.channels == (96, 144, 192, 576, 320)
    names = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    assert "last/conv/kernel" not in names
    assert "block16/project/conv/kernel" in names and "block16/project/norm/scale" not in names


def test_expanded_features_are_expansions_of_the_plain_ones():
    draw = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: draw.uniform(0.5, 1.5, leaf.shape) if leaf.ndim == 1 else draw.normal(0, 0.3, leaf.shape),
        run(MobileNetV2())[1],
    )

    @jax.jit
    def first(variables, x):
        return [MobileNetV2(expanded=inner).apply(variables, x, train=False)[1] for inner in (False, True)]

    plain, expanded = first(variables, draw.normal(size=(1, 32, 32, 3)).astype(np.float32))
    expand = variables["params"]["block1"]["expand"]
    normalized = compiled(BatchNorm(True).apply)(
        {"params": expand["norm"], "batch_stats": variables["batch_stats"]["block1"]["expand"]["norm"]},
        plain @ expand["conv"]["kernel"][0, 0],
    )
    assert jnp.abs(expanded - jnp.clip(normalized, 0, 6)).max() < 1e-3
    assert jnp.mean((expanded > 0) & (expanded < 6)) > 0.1
