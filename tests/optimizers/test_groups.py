"""Groups of parameters: what patterns cover, layer-wise rates, splitting, and the table."""

import jax
import jax.numpy as jnp
import pytest

from flaxseg.errors import ConfigError
from flaxseg.models import unet
from flaxseg.optimizers import RateScales, freezing, groups

PARAMS = {
    "encoder": {
        "stem": {"kernel": jnp.zeros((3, 3, 3, 8)), "scale": jnp.zeros(8)},
        "layer10": {"kernel": jnp.zeros((8, 8))},
        "layer2": {"kernel": jnp.zeros((8, 8))},
    },
    "head": {"kernel": jnp.zeros((8, 2)), "bias": jnp.zeros(2)},
}


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("encoder", "encoder/stem/kernel", True),
        ("encoder", "encoder", True),
        ("encoder", "encoder2/stem", False),
        ("coder", "encoder/stem", False),
        ("encoder/layer1", "encoder/layer10/kernel", False),
        ("encoder/layer1.*", "encoder/layer10/kernel", True),
        (".*/bias", "head/bias", True),
        (".*/bias", "head/bias_of/kernel", False),
        ("stem|head", "head/bias", True),
    ],
)
def test_patterns_cover_whole_names_from_the_beginning(pattern, path, expected):
    assert groups.covers(pattern, path) == expected


def test_split_and_merged():
    learning, fixed = groups.split(PARAMS, freezing(["encoder/stem", ".*/bias"]))
    assert set(fixed) == {"encoder", "head"} and set(fixed["encoder"]) == {"stem"} and set(fixed["head"]) == {"bias"}
    assert set(learning["encoder"]) == {"layer10", "layer2"} and set(learning["head"]) == {"kernel"}
    assert jax.tree.structure(groups.merged(learning, fixed)) == jax.tree.structure(PARAMS)
    assert groups.split(PARAMS, None) == (PARAMS, {})
    assert set(groups.split(PARAMS, freezing("encoder"))[1]) == {"encoder"}


def test_the_last_pattern_counts_and_layers_decay_from_the_end():
    scales = RateScales(
        (("encoder", 0.5), ("encoder/stem", 2.0)), layer_decay=0.5, layers=("stem", "layer2", "layer10")
    )
    assert scales.of("encoder/layer10/kernel") == 0.5 * 0.5
    assert scales.of("encoder/layer2/kernel") == 0.5 * 0.25
    assert scales.of("encoder/stem/scale") == 2.0 * 0.125
    assert scales.of("head/kernel") == 1.0


def test_layers_are_in_the_order_in_which_the_network_calls_them():
    model, seen = unet(num_classes=2, encoder="resnet18"), []

    def init(key):
        seen.extend(groups.encoder_layers(model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)["params"]))

    jax.eval_shape(init, jax.random.key(0))
    assert seen == ["stem", *(f"layer{stage}_block{block}" for stage in (1, 2, 3, 4) for block in (0, 1))]


def test_a_pattern_that_covers_nothing_is_named_with_what_there_is():
    with pytest.raises(
        ConfigError, match=r"config.x: 'encodr' covers no parameter.*begin with encoder/layer10, .*head/b"
    ):
        groups.check_patterns("config.x", ["head", "encodr"], PARAMS)
    with pytest.raises(ConfigError, match=r"config.x: '\(' is no regular expression"):
        groups.check_patterns("config.x", ["("], PARAMS)


def test_table():
    scales = RateScales((("head", 10.0),), layer_decay=0.5, layers=("stem", "layer2", "layer10"))
    text = groups.table(PARAMS, frozen=freezing(["encoder/stem"]), scales=scales, weight_decay=1e-4)
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["parameters", "of", "arrays", "values", "learning", "rate", "weight", "decay"]
    assert rows[1:] == [
        ["encoder", "2", "224", "frozen", "-"],
        ["encoder/layer10", "1", "64", "x", "0.5", "0.0001"],
        ["encoder/layer2", "1", "64", "x", "0.25", "0.0001"],
        ["head", "1", "16", "x", "10", "0.0001"],
        ["head", "1", "2", "x", "10", "-"],
    ]
