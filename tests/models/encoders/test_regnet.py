import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from flaxseg.models.encoders import make_encoder


def convolutions(output_stride):
    """Returns stride and dilation of each block's 3x3 convolution, and the variables' shapes."""
    found = []

    def record(call, args, kwargs, context):
        if context.module.name == "conv2":
            found.append((context.module.stride, context.module.dilation))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        encoder = make_encoder("regnety_016", output_stride=output_stride, dtype=jnp.float32)
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        return found, jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), image)["params"]


@pytest.mark.parametrize(
    ("output_stride", "stage3", "stage4"),
    [
        (32, [(2, 1)] + [(1, 1)] * 16, [(2, 1), (1, 1)]),
        (16, [(2, 1)] + [(1, 1)] * 16, [(1, 1), (1, 2)]),
        (8, [(1, 1)] + [(1, 2)] * 16, [(1, 2), (1, 4)]),
    ],
)
def test_the_first_block_of_a_stage_keeps_the_dilation_of_the_previous_stage(output_stride, stage3, stage4):
    found, _ = convolutions(output_stride)
    assert found[:8] == [(2, 1), (1, 1), (2, 1), *[(1, 1)] * 5]
    assert found[8:25] == stage3 and found[25:] == stage4


def test_widths_follow_the_input_of_the_block():
    _, params = convolutions(32)
    # Squeeze-and-excitation has a quarter of the channels that come in, and a group 24 channels of those that go out.
    assert params["stage2_block1"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 120, 12)
    assert params["stage2_block2"]["squeeze"]["reduce"]["kernel"].shape == (1, 1, 120, 30)
    assert params["stage2_block1"]["conv2"]["conv"]["kernel"].shape == (3, 3, 24, 120)
