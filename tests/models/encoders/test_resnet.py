import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.models.encoders import make_encoder
from flaxseg.models.encoders.resnet import ResNet
from flaxseg.models.pretrained.torch_names import convert_tensors


def dilations(name, output_stride):
    """Returns the dilation of the 3x3 convolution of each block, from the third layer on."""
    found = []

    def record(call, args, kwargs, context):
        if context.module.name == "conv2":
            found.append(context.module.dilation)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        encoder = make_encoder(name, output_stride=output_stride, dtype=jnp.float32)
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), image)
    return found[7:]


def test_the_first_dilated_block_has_the_dilation_of_its_reference():
    assert dilations("se_resnext50_32x4d", 16) == [1] * 6 + [2] * 3
    assert dilations("seresnext50_32x4d", 16) == [1] * 6 + [1, 2, 2]
    assert dilations("se_resnext50_32x4d", 8) == [2] * 6 + [4] * 3
    assert dilations("seresnext50_32x4d", 8) == [1, 2, 2, 2, 2, 2, 2, 4, 4]


@pytest.mark.parametrize(
    "names",
    [
        ("layer0.conv1.weight", "layer0.bn1.weight", "layer2.1.se_module.fc1.weight", "layer2.1.se_module.fc2.bias"),
        ("conv1.weight", "bn1.weight", "layer2.1.se.fc1.weight", "layer2.1.se.fc2.bias"),
    ],
)
def test_both_schemes_of_names_are_equivalent(names):
    shapes = (1, 1, 1, 1), (1,), (1, 1, 1, 1), (1,)
    tensors = {name: np.zeros(shape) for name, shape in zip(names, shapes, strict=True)}
    found, unknown = convert_tensors(tensors | {"fc.bias": np.zeros(1)}, ResNet.torch_names)
    assert not unknown
    assert list(found) == [
        "params/stem/conv/kernel",
        "params/stem/norm/scale",
        "params/layer2_block1/squeeze/reduce/kernel",
        "params/layer2_block1/squeeze/expand/bias",
    ]
