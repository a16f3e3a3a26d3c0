import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flaxseg.models.encoders import make_encoder


def blocks(output_stride=32, depth=5, name="mobilenetv3_large_100"):
    """Returns kernel size, stride, dilation and squeezed channels of each block, and the variables' shapes."""
    found = []

    def record(call, args, kwargs, context):
        if context.module.name == "depthwise":
            module, parent = context.module, context.module.parent
            found.append((module.kernel_size, module.stride, module.dilation, parent.squeezed))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        encoder = make_encoder(name, output_stride=output_stride, depth=depth, dtype=jnp.float32)
        image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        return found, jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), image)["params"]


def test_the_table_of_the_paper():
    found, params = blocks()
    assert [(kernel, stride) for kernel, stride, *_ in found] == [
        (3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 1), (3, 1), (5, 2), (5, 1),
        (5, 1),
    ]  # fmt: skip
    assert [squeezed for *_, squeezed in found] == [0, 0, 0, 24, 32, 32, 0, 0, 0, 0, 120, 168, 168, 240, 240]
    widths = [params[f"stage3_block{number}"]["expand"]["conv"]["kernel"].shape[-1] for number in range(4)]
    assert widths == [240, 200, 184, 184]


@pytest.mark.parametrize(
    ("output_stride", "later"), [(16, [1] * 7 + [2, 2]), (8, [1, 2, 2, 2, 2, 2, 2, 4, 4])], ids=["16", "8"]
)
def test_the_first_dilated_block_keeps_the_previous_dilation(output_stride, later):
    found, _ = blocks(output_stride)
    assert [dilation for _, _, dilation, _ in found[6:]] == later


def test_the_first_dilated_block_of_torchvision_is_dilated_itself():
    found, _ = blocks(16, name="mobilenet_v3_large")
    assert [dilation for _, _, dilation, _ in found[6:]] == [1] * 6 + [2, 2, 2]


def test_a_shallow_encoder_ends_before_the_next_stride():
    found, params = blocks(depth=3)
    assert len(found) == 6 and "stage3_block0" not in params and "last" not in params
