"""The runs that a configuration trains together: names, configurations and errors."""

import json

import pytest

from flaxseg.config.files import load_config, override
from flaxseg.config.members import base_config, member_configs, named_together, setting
from flaxseg.config.schema import leaves
from flaxseg.config.validate import validate
from flaxseg.errors import ConfigError

RATES = "train.learning_rates=(1, 3e-3)"
LOSSES = "train.loss_weights=({'dice': 0.5}, {'dice': 1, 'focal': 2})"


def config_of(*overrides):
    config = load_config("shapes", overrides)
    validate(config)
    return config


def test_each_combination_is_the_configuration_of_a_single_run():
    config = config_of("train.seeds=(4, 2)", RATES, LOSSES, "loss_options.focal.gamma=3.0", "seed=9")
    found = member_configs(config)
    assert list(found) == [
        f"seed-{seed}_learning_rate-{rate}_loss-{loss}"
        for rate in ("1", "0.003")
        for loss in ("dice-0.5", "dice-1-focal-2")
        for seed in (4, 2)
    ]
    single = config_of(
        "seed=2", "optimizer.learning_rate=3e-3", "loss={'dice':1.0,'focal':2.0}", "loss_options.focal.gamma=3.0"
    )
    member = found["seed-2_learning_rate-0.003_loss-dice-1-focal-2"]
    assert json.loads(member.to_json()) == json.loads(single.to_json())
    assert found["seed-4_learning_rate-1_loss-dice-0.5"].loss_options.to_dict() == {}
    for each in found.values():
        validate(each)
    base = base_config(config)
    validate(base)
    assert (base.seed, base.loss.to_dict()) == (4, {"dice": 0.5, "focal": 0.0})
    assert base.loss_options.to_dict() == {"focal": {"gamma": 3.0}}


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["train.seeds=(0, 7)"], ["seed-0", "seed-7"]),
        (["seed=5", RATES], ["seed-5_learning_rate-1", "seed-5_learning_rate-0.003"]),
        (["train.learning_rates=(1e-7, 0.1000001)"], ["seed-0_learning_rate-1e-07", "seed-0_learning_rate-0.1000001"]),
        (["train.loss_weights=({'dice': 1, 'focal': 0},)"], ["seed-0_loss-dice-1"]),
    ],
)
def test_a_name_has_a_part_for_each_key_that_names_several(overrides, names):
    assert list(member_configs(config_of(*overrides))) == names


def test_names_are_safe_for_folders_and_distinct():
    config = load_config("shapes")
    config.train.loss_weights = ({"json:dumps": 1.0}, {"json/dumps": 1.0}, {"x" * 300: 1.0}, {"x" * 301: 1.0})
    names = list(member_configs(config))
    assert len({name.lower() for name in names}) == 4
    assert all(len(name) < 130 and name.isascii() and not set(name) & set(':/\\*?"<>|') for name in names)
    assert names == list(member_configs(config))


def test_the_setting_is_what_other_seeds_share():
    assert setting("seed-0") == ""
    assert setting("seed-12_learning_rate-0.1_loss-cross_entropy-1") == "learning_rate-0.1_loss-cross_entropy-1"


def test_named_together_lists_the_keys():
    assert named_together(dict(leaves(config_of()))) == ""
    together = named_together(dict(leaves(config_of("train.seeds=(0, 1)", RATES))))
    assert together == "train.seeds = (0, 1) and train.learning_rates = (1, 0.003)"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.learning_rates=0.1"], "config.train.learning_rates = 0.1: must be a tuple of different numbers"),
        (["train.learning_rates=(1, 1.0)"], "(1, 1.0): must be a tuple of different numbers of at least 0"),
        (["train.learning_rates=(-1,)"], "(-1,): must be a tuple of different numbers of at least 0, as in (0.001,"),
        (["train.loss_weights={'dice':1}"], "config.train.loss_weights = {'dice': 1}: must be a tuple of different"),
        (["train.loss_weights=({'dice':0},)"], "({'dice': 0},): must be a tuple of different groups of weights"),
        (["train.loss_weights=({'dice':-1},)"], "({'dice': -1},): must be a tuple of different groups of weights"),
        (["train.loss_weights=({'dice':1}, {'dice':1.0,'focal':0})"], "must be a tuple of different groups of weights"),
        (["train.loss_weights=({'dise':1},)"], "config.train.loss_weights = 'dise': unknown; did you mean 'dice'?"),
        (["train.loss_weights=({'a.b:c':1},)"], "config.train.loss_weights = 'a.b:c': the name of a loss must not"),
        ([LOSSES, "loss_options.focal.gama=1"], "config.loss_options.focal.gama"),
        ([LOSSES, "loss_options.jaccard.smooth=1"], "config.loss_options.jaccard: config.loss has no weight for this"),
        ([RATES, "mesh.fsdp=2"], "config.mesh.fsdp = 2: the runs of train.learning_rates = (1, 0.003) are trained"),
        ([LOSSES, "train.non_finite=rollback"], "config.train.non_finite = 'rollback': the runs of train.loss_weights"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_trained_together_are_refused(overrides, message):
    config = load_config("shapes")
    with pytest.raises(ConfigError) as raised:
        override(config, overrides)
        validate(config)
    assert message in str(raised.value)
