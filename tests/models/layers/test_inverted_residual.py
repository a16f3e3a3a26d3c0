import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg.models.layers.inverted_residual import InvertedResidual


@pytest.mark.parametrize("is_fused", [False, True])
def test_a_block_by_hand(is_fused):
    block = InvertedResidual(
        3,
        8,
        squeezed=2,
        is_fused=is_fused,
        activation=nn.hard_swish,
        squeeze_activation=nn.relu,
        gate=nn.hard_sigmoid,
        epsilon=0.0,
    )
    x = np.array([0.5, -1.0, 2.0], np.float32)
    variables = compiled(block.init)(jax.random.key(1), x[None, None, None], train=False)
    params, hard_swish = variables["params"], lambda y: y * np.clip(y + 3, 0, 6) / 6
    # Means are 0, variances 1; of the 3x3 kernel, only the center meets the pixel.
    kernel = params["expand"]["conv"]["kernel"]
    y = hard_swish(x @ kernel[kernel.shape[0] // 2, kernel.shape[1] // 2])
    if not is_fused:
        y = hard_swish(y * params["depthwise"]["conv"]["kernel"][1, 1, 0])
    gate = np.maximum(y @ params["squeeze"]["reduce"]["kernel"][0, 0], 0) @ params["squeeze"]["expand"]["kernel"][0, 0]
    y = y * np.clip(gate + 3, 0, 6) / 6
    expected = x + y @ params["project"]["conv"]["kernel"][0, 0]
    found = compiled(block.apply)(variables, x[None, None, None], train=False)[0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert ("depthwise" in params) is not is_fused


def test_blocks_that_change_shape_have_no_residual_connection():
    x = jnp.ones((1, 4, 4, 3))
    for options in ({"features": 3, "wide": 3, "stride": 2}, {"features": 4, "wide": 3}):
        block = InvertedResidual(**options)
        variables = compiled(block.init)(jax.random.key(0), x, train=False)
        # With as many inner channels as the input has, there is no expansion.
        assert set(variables["params"]) == {"depthwise", "project"}
        zero = jax.tree.map(jnp.zeros_like, variables["params"]["project"])
        variables["params"]["project"] = zero
        assert not np.any(compiled(block.apply)(variables, x, train=False))
