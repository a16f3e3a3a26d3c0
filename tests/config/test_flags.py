"""The flags of suggested settings, and the overrides in a line of them."""

import shlex

import pytest

from flaxseg.config.files import load_config
from flaxseg.config.flags import flag, flags_to_open, overrides_in
from flaxseg.errors import ConfigError, DataError


def test_flags_are_quoted_for_a_shell():
    assert flag("values", (0, 255)) == "--config.data.options.values='(0,255)'"
    assert flag("ignore_values", (11,)) == "--config.data.options.ignore_values='(11,)'"
    assert flag("reduce_zero_label", True) == "--config.data.options.reduce_zero_label=True"
    assert flag("image_size", (60, 80)) == "--config.data.image_size='(60,80)'"
    command = flag("class_names", ("sky", "a's"))
    assert shlex.split(command) == ["""--config.data.options.class_names=('sky',"a's")"""]
    assert flag("class_names", ("sky", "cat")) == """--config.data.options.class_names='("sky","cat")'"""
    assert flag("eval_split", "") == "--config.data.eval_split=''"
    assert flag("config", "folder") == "--config=folder"
    assert flag("skip_bad", 3) == "--config.data.skip_bad=3"


def test_the_flags_that_open_a_dataset_are_those_of_the_error():
    settings = load_config("folder", []).data
    error = DataError("no such folder", options={"images": "test/image", "masks": "test/label"})
    assert flags_to_open(error, settings) == (
        "On the command line, add --config.data.options.images=test/image --config.data.options.masks=test/label"
    )
    assert flags_to_open(DataError("broken"), settings) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("train.steps=70  seed=1", ["train.steps=70", "seed=1"]),
        ("data.options.class_names=('sky', 'cat') seed=1", ["data.options.class_names=('sky', 'cat')", "seed=1"]),
        ("data.options.class_names='sky','big cat'", ["data.options.class_names=sky,big cat"]),
        ("data.options.class_names=sky, big cat seed=1", ["data.options.class_names=sky, big cat", "seed=1"]),
        ("data.options.size='(32, 48)'", ["data.options.size=(32, 48)"]),
        ("data.options.masks='{split}annot'", ["data.options.masks={split}annot"]),
        ("data.options.masks={split}annot", ["data.options.masks={split}annot"]),
        ("loss.brier:brier=0.5 train.callback_options.wandb.name='a b=c'",
         ["loss.brier:brier=0.5", "train.callback_options.wandb.name=a b=c"]),
        ("data.eval_split=''", ["data.eval_split="]),
        ("data.dir", ["data.dir"]),
    ],
)  # fmt: skip
def test_a_text_holds_several_overrides(text, expected):
    assert overrides_in(text) == expected


def test_flags_of_a_shell_are_overrides():
    settings = {"values": (0, 255), "class_names": ("sky", "a's"), "masks": "a b", "eval_split": "", "skip_bad": 3}
    expected = [
        "data.options.values=(0,255)", """data.options.class_names=('sky',"a's")""", "data.options.masks=a b",
        "data.eval_split=", "data.skip_bad=3",
    ]  # fmt: skip
    flags = [flag(argument, value) for argument, value in settings.items()]
    assert overrides_in(" ".join(flags)) == expected
    assert overrides_in(shlex.join(f"--config.{each}" for each in expected)) == expected


def test_a_lone_quotation_mark_is_an_error():
    with pytest.raises(ConfigError, match=r"^data\.options\.masks='a b: has a quotation mark without"):
        overrides_in("data.options.masks='a b")
