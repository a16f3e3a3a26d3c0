import functools

import jax
import jax.numpy as jnp
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model


def shapes_of(name, *, channels=3, **options):
    """Returns the network, and the shapes of its logits and variables."""
    model = build_model(name, num_classes=2, **{"encoder": "resnet18"} | options)
    x = jax.ShapeDtypeStruct((1, 33, 47, channels), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return model, *jax.eval_shape(functools.partial(model.init_with_output, train=True), keys, x)


@pytest.mark.parametrize(
    ("name", "options", "stride"),
    [
        ("deeplabv3", {}, 8),
        ("deeplabv3", {"output_stride": 16}, 16),
        ("deeplabv3", {"output_stride": 16, "encoder_depth": 3}, 8),
        ("deeplabv3plus", {"encoder": "convnext_tiny"}, 16),
        ("deeplabv3plus", {"output_stride": 8, "separable": False}, 8),
    ],
)
def test_output_strides(name, options, stride):
    model, logits, _ = shapes_of(name, dtype=jnp.bfloat16, channels=4, **options)
    assert model.stride == stride
    assert (logits.shape, logits.dtype) == ((1, 33, 47, 2), jnp.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 32}, "output_stride = 32: this architecture supports 8, 16"),
        ({"output_stride": 8.0}, r"output_stride = 8\.0: this architecture supports 8, 16"),
        (
            {"encoder": "vgg16"},
            r"output_stride = 8: encoder vgg16 cannot be dilated to it; .* 8, 16\. Set encoder to one",
        ),
        ({"encoder": "resnet19"}, "encoder = 'resnet19': unknown"),
        ({"encoder_depth": 6}, "encoder_depth = 6: "),
        ({"atrous_rates": (6, 12)}, r"atrous_rates = \(6, 12\): must be 3 integers of at least 1"),
        ({"separable": 1}, "separable = 1: must be True or False"),
        ({"dropout": 1.0}, r"dropout = 1\.0: must be a number of at least 0 and below 1"),
        ({"auxiliary_channels": 0}, "auxiliary_channels = 0: must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    for name in ("deeplabv3", "deeplabv3plus"):
        with pytest.raises(ArgumentError, match=message.replace("= 8:", "= (8|16):")):
            build_model(name, **{"num_classes": 3} | options)


@pytest.mark.parametrize("name", ["deeplabv3", pytest.param("deeplabv3plus", marks=pytest.mark.long)])
def test_auxiliary_head_only_on_request(name):
    _, _, alone = shapes_of(name)
    _, _, with_head = shapes_of(name, auxiliary_head=True, auxiliary_channels=24)
    assert with_head["params"].keys() - alone["params"].keys() == {"auxiliary_block", "auxiliary_head0"}
    assert with_head["params"]["auxiliary_block"]["conv"]["kernel"].shape == (3, 3, 256, 24)
    assert [x.shape for x in jax.tree.leaves(with_head["auxiliary"])] == [(1, 33, 47, 2)]
