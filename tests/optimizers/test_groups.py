"""Groups of parameters: patterns, learning-rate multipliers, freezing, and the table of groups."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from flaxseg.errors import ArgumentError
from flaxseg.models import unet
from flaxseg.optimizers import (
    LearningRateMultipliers,
    freezing,
    groups,
    make_optimizer,
    make_schedule,
    plateau_multiplier,
    with_frozen_parameters,
)

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
def test_patterns_match_whole_leading_names(pattern, path, expected):
    assert groups.matches(pattern, path) == expected


def test_the_last_matching_pattern_applies_and_layers_decay_from_the_end():
    multipliers = LearningRateMultipliers(
        (("encoder", 0.5), ("encoder/stem", 2.0)), layer_decay=0.5, layers=("stem", "layer2", "layer10")
    )
    assert multipliers.multiplier("encoder/layer10/kernel") == 0.5 * 0.5
    assert multipliers.multiplier("encoder/layer2/kernel") == 0.5 * 0.25
    assert multipliers.multiplier("encoder/stem/scale") == 2.0 * 0.125
    assert multipliers.multiplier("head/kernel") == 1.0


def test_encoder_layers_are_in_the_order_of_the_forward_pass():
    model, seen = unet(num_classes=2, encoder="resnet18"), []

    def init(key):
        seen.extend(groups.encoder_layers(model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)["params"]))

    jax.eval_shape(init, jax.random.key(0))
    assert seen == ["stem", *(f"layer{stage}_block{block}" for stage in (1, 2, 3, 4) for block in (0, 1))]


def test_a_pattern_that_matches_nothing_is_named_with_the_existing_paths():
    with pytest.raises(
        ArgumentError, match=r"freeze = 'encodr': matches no parameter.*begin with encoder/layer10, .*head/b"
    ):
        groups.check_patterns("freeze", ["head", "encodr"], PARAMS)
    with pytest.raises(ArgumentError, match=r"freeze = '\(': is not a valid regular expression"):
        groups.check_patterns("freeze", ["("], PARAMS)


def test_table_of_groups():
    multipliers = LearningRateMultipliers((("head", 10.0),), layer_decay=0.5, layers=("stem", "layer2", "layer10"))
    text = groups.format_groups(PARAMS, frozen=freezing(["encoder/stem"]), multipliers=multipliers, weight_decay=1e-4)
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["parameters", "of", "arrays", "values", "learning", "rate", "weight", "decay"]
    assert rows[1:] == [
        ["encoder", "2", "224", "frozen", "-"],
        ["encoder/layer10", "1", "64", "x", "0.5", "0.0001"],
        ["encoder/layer2", "1", "64", "x", "0.25", "0.0001"],
        ["head", "1", "16", "x", "10", "0.0001"],
        ["head", "1", "2", "x", "10", "-"],
    ]


FROZEN = freezing(["encoder/stem", ".*/bias"])


def learning_parameters(tree):
    """Returns the tree without its frozen parameters."""
    flat = traverse_util.flatten_dict(tree)
    return traverse_util.unflatten_dict({path: leaf for path, leaf in flat.items() if not FROZEN("/".join(path))})


def random_like(tree, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32), tree)


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor", "lamb"])
def test_learning_parameters_are_updated_as_if_the_frozen_ones_did_not_exist(name):
    schedule = make_schedule(
        "plateau", learning_rate=0.1, warmup_steps=1, total_steps=100, options={"window": 1, "patience": 1}
    )
    arguments = {
        "schedule": schedule,
        "weight_decay": 0.1,
        "grad_clip": 0.5,
        "multipliers": LearningRateMultipliers((("head", 10.0),), 0.5, ("stem", "layer2", "layer10")),
    }
    whole = make_optimizer(name, **arguments, frozen=FROZEN)
    alone = make_optimizer(name, **arguments)
    update_whole, update_alone = jax.jit(whole.update), jax.jit(alone.update)
    params = random_like(PARAMS, 0)
    state, state_alone = whole.init(params), alone.init(learning_parameters(params))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == sum(leaf.size for leaf in jax.tree.leaves(state_alone))
    for seed in (1, 2, 3):  # the loss never improves, so that the plateau multiplier falls
        gradients, value = random_like(PARAMS, seed), jnp.float32(1.0)
        expected, state_alone = update_alone(
            learning_parameters(gradients), state_alone, learning_parameters(params), value=value
        )
        updates, state = update_whole(gradients, state, params, value=value)
        jax.tree.map(np.testing.assert_array_equal, learning_parameters(updates), expected)
        for path, update in traverse_util.flatten_dict(updates, sep="/").items():
            assert np.any(update) == (not FROZEN(path))
        params = optax.apply_updates(params, updates)
    assert plateau_multiplier(state) == plateau_multiplier(state_alone) < 1


def test_the_parameters_of_any_optax_optimizer_can_be_frozen():
    tx = with_frozen_parameters(optax.adam(0.1), FROZEN)
    state = tx.init(PARAMS)
    # Two moments of the learning parameters, and the number of steps.
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * (64 + 64 + 16) + 1
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1, rtol=1e-5)
    np.testing.assert_array_equal(updates["encoder"]["stem"]["kernel"], 0)
