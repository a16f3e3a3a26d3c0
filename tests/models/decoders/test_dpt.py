import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from flaxseg import ops
from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.dpt import DPTDecoder

pytestmark = pytest.mark.usefixtures("small_encoder")


def shapes(**options):
    model = build_model("dpt", num_classes=2, fusion_channels=8, **options)
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    logits, variables = jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), image)
    assert logits.shape == (1, 64, 96, 2)
    return model, variables


def test_a_vision_transformer_gives_four_blocks_without_its_last_normalization():
    model, variables = shapes()
    assert model.encoder.taken == (3, 6, 9, 12) and model.encoder.interpolation == "bilinear"
    assert "norm" not in variables["params"]["encoder"] and model.encoder.class_features
    decoder = variables["params"]["decoder"]
    assert decoder["readout0"]["kernel"].shape == (2 * 768, 768)
    assert [decoder[f"project{i}"]["kernel"].shape[-1] for i in range(4)] == [96, 192, 384, 768]
    assert decoder["resize0"]["kernel"].shape == (4, 4, 96, 96)
    assert decoder["resize1"]["kernel"].shape == (2, 2, 192, 192)
    assert decoder["resize3"]["kernel"].shape == (3, 3, 768, 768)
    assert "resize2" not in decoder and "fusion0_skip" not in decoder


def test_other_blocks_readouts_and_normalization_are_options():
    model, variables = shapes(feature_blocks=(1, 2, 3, 5), readout="ignore", batch_norm=False)
    assert model.encoder.taken == (1, 2, 3, 5) and not model.encoder.class_features
    decoder = variables["params"]["decoder"]
    assert not any(name.startswith("readout") for name in decoder)
    assert set(decoder["fusion1_skip"]["conv1"]) == {"conv"} and "bias" in decoder["fusion1_skip"]["conv1"]["conv"]
    _, variables = shapes(readout="add")
    assert variables["params"]["decoder"]["project0"]["kernel"].shape == (1, 1, 768, 96)


class Reassembly(DPTDecoder):
    """The reassembly of the third feature alone."""

    @nn.compact
    def __call__(self, x):
        return self._reassembled(x, 2)


@pytest.mark.parametrize(("readout", "expected"), [("ignore", [1, 2]), ("add", [11, 22])])
def test_the_class_token_is_added_to_each_patch_or_left_out(readout, expected):
    patches = jnp.tile(jnp.asarray([1.0, 2.0]), (1, 2, 2, 1))
    feature = jnp.concatenate([patches, 10 * patches], -1) if readout == "add" else patches
    decoder = Reassembly(readout=readout, neck_channels=(2, 2, 2, 2))
    variables = {"params": {"project2": {"kernel": jnp.eye(2)[None, None], "bias": jnp.zeros(2)}}}
    np.testing.assert_array_equal(compiled(decoder.apply)(variables, feature)[0, 1, 1], expected)


def test_features_of_other_encoders_are_fused_as_they_are():
    _, variables = shapes(encoder="small")
    decoder = variables["params"]["decoder"]
    assert [decoder[f"neck{i}"]["kernel"].shape for i in range(4)] == [(3, 3, c, 8) for c in (6, 8, 10, 12)]
    assert not any(name.startswith(("readout", "project", "resize")) for name in decoder)


def test_the_projection_before_a_resize_equals_the_one_after_it():
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 5))
    kernel, bias = jax.random.normal(jax.random.key(1), (5, 6)), jnp.arange(6.0)
    before = ops.resize_bilinear(x @ kernel + bias, (6, 8), align_corners=True)
    after = ops.resize_bilinear(x, (6, 8), align_corners=True) @ kernel + bias
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "mean"}, "readout = 'mean': must be one of 'project', 'add', 'ignore'"),
        ({"neck_channels": (1, 2)}, r"neck_channels = \(1, 2\): must be 4 integers of at least 1"),
        ({"feature_blocks": (1, 2, 3, 13)}, r"feature_blocks = .*: must be in ascending order, and at most 12"),
        ({"feature_blocks": (2, 1, 3, 4)}, r"feature_blocks = .*: must be in ascending order, and at most 12"),
        ({"encoder": "small", "feature_blocks": (1, 2, 3, 4)}, "encoder small is no vision transformer; leave it out"),
        ({"encoder": "small", "encoder_depth": 4}, "encoder_depth = 4: this architecture needs 5, for four features"),
        ({"encoder_depth": 3}, "encoder_depth = 3: this architecture needs 5, for four features"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"batch_norm": 1}, "batch_norm = 1: must be True or False"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("dpt", num_classes=2, **options)
