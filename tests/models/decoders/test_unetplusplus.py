import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.models import build_model
from flaxseg.models.decoders.unetplusplus import UNetPlusPlusDecoder

SMALL = {"num_classes": 2, "encoder": "resnet18", "decoder_channels": (24, 20, 16, 12, 8)}


def shapes_of(**options):
    model = build_model("unetplusplus", **SMALL | options)
    x = jax.ShapeDtypeStruct((1, 33, 47, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, train=True), {"params": jax.random.key(0)}, x)


def pyramid(*channels):
    """Returns features of an 8x8 image at 1, 1/2, 1/4, 1/8 of its size."""
    keys = jax.random.split(jax.random.key(0), len(channels))
    return [jax.random.normal(keys[i], (1, 8 >> i, 8 >> i, c)) for i, c in enumerate(channels)]


def test_a_node_concatenates_the_previous_nodes_of_its_row():
    decoder = shapes_of()["params"]["decoder"]
    inputs = {name: block["conv1"]["conv"]["kernel"].shape[2:] for name, block in decoder.items()}
    # The upsampled node + previous nodes of the row + the encoder's feature.
    assert inputs == {
        "row0_node0": (512 + 0 + 256, 24),
        "row1_node1": (256 + 0 + 128, 128),
        "row1_node0": (24 + 128 + 128, 20),
        "row2_node2": (128 + 0 + 64, 64),
        "row2_node1": (128 + 64 + 64, 64),
        "row2_node0": (20 + 128 + 64, 16),
        "row3_node3": (64 + 0 + 64, 64),
        "row3_node2": (64 + 64 + 64, 64),
        "row3_node1": (64 + 128 + 64, 64),
        "row3_node0": (16 + 192 + 64, 12),
        "row4_node0": (12, 8),
    }


def test_deep_supervision_adds_a_head_for_each_shallower_network():
    alone, supervised = shapes_of(), shapes_of(auxiliary_head=True)
    heads = supervised["params"].keys() - alone["params"].keys()
    assert heads == {"auxiliary_head0", "auxiliary_head1", "auxiliary_head2"}
    assert [x.shape for x in jax.tree.leaves(supervised["auxiliary"])] == [(1, 33, 47, 2)] * 3


def test_auxiliary_maps_do_not_depend_on_coarser_features_than_their_network_has():
    features = pyramid(3, 4, 5, 6)
    decoder = UNetPlusPlusDecoder((8, 8, 8), auxiliary_head=True)
    variables = jax.jit(functools.partial(decoder.init, train=False))(jax.random.key(1), features)
    apply = jax.jit(functools.partial(decoder.apply, train=False))
    x, *sides = apply(variables, features)
    assert [side.shape for side in sides] == [(1, 4, 4, 4)]
    other_x, other_side = apply(variables, [*features[:-1], features[-1] + 1])
    np.testing.assert_array_equal(other_side, sides[0])
    assert np.any(other_x != x)


@pytest.mark.parametrize("attention", ["none", "scse"])
def test_a_row_without_a_feature_has_one_node(attention):
    decoder = UNetPlusPlusDecoder((8, 8, 8), attention, auxiliary_head=True)
    init = functools.partial(decoder.init_with_output, train=False)
    outputs, variables = jax.eval_shape(init, jax.random.key(1), pyramid(3, 0, 5, 6))
    assert [x.shape for x in outputs] == [(1, 8, 8, 8)]
    assert set(variables["params"]) == {"row0_node0", "row1_node0", "row2_node0"}
    assert variables["params"]["row1_node0"]["conv1"]["conv"]["kernel"].shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "mit_b1"}, "encoder = 'mit_b1': none of mit_b0, .*mit_b5 can be used here: the reference has no"),
        ({"encoder_depth": 4}, r"decoder_channels = \(24, 20, 16, 12, 8\): must be 4 integers"),
        ({"attention": "cbam"}, "attention = 'cbam': must be one of 'none', 'scse'"),
        ({"auxiliary_head": 0.4}, "auxiliary_head = 0.4: must be True or False"),
        (
            {
                "encoder": "convnext_tiny",
                "encoder_depth": 3,
                "decoder_channels": (8, 8, 8),
                "auxiliary_head": True,
            },
            "auxiliary_head = True: encoder convnext_tiny with encoder_depth = 3 has only two features",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        build_model("unetplusplus", **SMALL | options)
