"""`train.callbacks` and `train.callback_options`: what they may name, and the errors of names and options."""

import json
import types

import pytest

from flaxseg.config.callbacks import CALLBACKS, drop_callbacks, option_group
from flaxseg.config.files import config_of_record, load_config
from flaxseg.config.help import config_help, default_options
from flaxseg.config.validate import errors_in
from flaxseg.deploy.evaluation_data import evaluation_config
from flaxseg.registry import look_up, options_of


def errors_of(*overrides):
    return errors_in(load_config("shapes:tiny", [f"train.{each}" for each in overrides]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["callbacks=('csv',)"],
        ["callbacks=csv"],
        ["callbacks=('own_callbacks:plain', 'wandb')", "callback_options.wandb.mode=offline"],
        ["callbacks=('own_callbacks:Recorder',)", "callback_options.Recorder.fail_at=3"],
    ],
)
def test_names_of_the_table_and_own_classes_and_functions_are_valid(overrides):
    assert errors_of(*overrides) == []


OWN = "callbacks=('own_callbacks:Recorder',)"


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (
            ["callbacks=3"],
            "callbacks = 3: must be a tuple of 'csv', 'mlflow', 'wandb' or 'package.module:function', as in ('csv',)",
        ),
        (
            ["callbacks=('cvs',)"],
            "callbacks = 'cvs': unknown; did you mean 'csv'? Known are csv, mlflow, wandb, and "
            "'package.module:function' for a function of your own",
        ),
        (["callbacks=('csv','csv')"], "callbacks = ('csv', 'csv'): names 'csv' twice; name each callback once"),
        (
            ["callbacks=('no.module:f',)"],
            "callbacks = 'no.module:f': module 'no.module' cannot be imported (No module named 'no'); check the "
            "spelling, and that it is installed or on PYTHONPATH",
        ),
        (
            ["callbacks=('own_callbacks:Recordr',)"],
            "callbacks = 'own_callbacks:Recordr': module 'own_callbacks' has no function 'Recordr'; did you mean "
            "'Recorder'?",
        ),
        (
            ["callbacks=('own_callbacks:positional',)"],
            "callbacks = ('own_callbacks:positional',): 'own_callbacks:positional' needs the positional argument "
            "'path', but options are given by name; declare it as keyword-only, after a `*`",
        ),
        (
            ["callbacks=('wandb',)", "callback_options.wandb.project=3"],
            "callback_options.wandb.project = 3: must be of type string",
        ),
        ([OWN, "callback_options.Recorder.fail_at=x"], "callback_options.Recorder.fail_at = 'x': must be of type int"),
        (
            [OWN, "callback_options.Recorder.workdir=x"],
            "callback_options.Recorder.workdir = 'x': no such option; options are fail_at",
        ),
        (
            ["callbacks=('wandb',)", "callback_options.wand.mode=offline"],
            "callback_options.wand: no such callback in config.train.callbacks; did you mean 'wandb'?",
        ),
        (
            ["callbacks=('csv',)", "callback_options.csv=3"],
            "callback_options.csv = 3: must be a group of options, as in config.train.callback_options.csv.NAME = "
            "VALUE",
        ),
    ],
)
def test_each_mistake_is_one_error(overrides, error):
    assert errors_of(*overrides) == [f"config.train.{error}"]


@pytest.mark.parametrize("name", CALLBACKS)
def test_every_callback_of_the_table_can_be_imported_and_describes_its_options(name):
    assert all(option.doc for option in options_of(look_up(name, CALLBACKS)))


def test_options_are_grouped_by_the_name_without_its_module():
    assert [option_group(name) for name in ("csv", "package.module:Recorder")] == ["csv", "Recorder"]


def test_help_describes_the_options_of_configured_and_named_callbacks():
    config = load_config("shapes:tiny", ["train.callbacks=('own_callbacks:Recorder',)"])
    text = config_help(config, "train.callback_options")
    assert "fail_at" in text and "the evaluated step at which it raises an error" in text and "workdir" not in text
    assert "Must be of type string." in config_help(config, "train.callback_options.wandb.project")
    assert "train.callback_options.Recorder.fail_at = 0" in "\n".join(default_options(config))


def test_evaluation_needs_no_callbacks():
    overrides = ["train.callbacks=('no.module:f',)", "train.callback_options.f.x=1"]
    config = evaluation_config(types.SimpleNamespace(), config="shapes:tiny", overrides=overrides)
    assert (config.train.callbacks, config.train.callback_options.to_dict()) == ((), {})
    del config.train
    drop_callbacks(config)
    assert "train" not in config


def test_a_recorded_configuration_keeps_names_and_options(tmp_path):
    config = load_config("shapes:tiny", ["train.callbacks=('wandb',)", "train.callback_options.wandb.mode=offline"])
    found = config_of_record(json.loads(config.to_json()), tmp_path)
    assert found.train.callbacks == ("wandb",) and found.train.callback_options.to_dict() == {
        "wandb": {"mode": "offline"}
    }
