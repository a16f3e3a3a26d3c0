import functools

import jax
import jax.numpy as jnp
import numpy as np
from compiled import compiled

from flaxseg.models.encoders import ENCODERS, make_encoder
from flaxseg.models.encoders.efficientnet_v2 import _ConvBlock


def shapes(depth):
    """Returns the shapes of the features, and of the parameters."""
    encoder = make_encoder("tf_efficientnetv2_s", depth=depth, dtype=jnp.float32)
    init = functools.partial(encoder.init_with_output, train=False)
    features, variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 64, 3), jnp.float32))
    return [feature.shape[1:] for feature in features], variables["params"]


def test_blocks_of_each_stage():
    features, params = shapes(4)
    assert features == [(32, 64, 3), (16, 32, 24), (8, 16, 48), (4, 8, 64), (2, 4, 160)]
    numbers = [sum(name.startswith(f"stage{stage}_") for name in params) for stage in range(6)]
    assert numbers == [2, 4, 4, 6, 9, 0]
    assert set(params["stage0_block1"]) == {"conv"}
    assert set(params["stage2_block0"]) == {"expand", "project"}
    assert set(params["stage4_block0"]) == {"expand", "depthwise", "squeeze", "project"}
    # Squeeze-and-excitation has a quarter of the channels that come in.
    assert params["stage4_block0"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 768, 32)
    assert params["stage4_block0"]["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 768)


def test_a_block_of_one_convolution_by_hand():
    x = np.array([0.5, -1.0], np.float32)
    block, image = _ConvBlock(jnp.float32), jnp.asarray(x)[None, None, None]
    variables = compiled(block.init)(jax.random.key(0), image, train=False)
    y = x @ variables["params"]["conv"]["conv"]["kernel"][1, 1] / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(
        compiled(block.apply)(variables, image, train=False)[0, 0, 0], x + y / (1 + np.exp(-y)), rtol=1e-5
    )


def test_images_are_normalized_as_in_its_training():
    assert ENCODERS["tf_efficientnetv2_m"].mean == ENCODERS["tf_efficientnetv2_m"].std == (127.5,) * 3
