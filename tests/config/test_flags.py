"""The flags of suggested settings."""

import shlex

from flaxseg.config.files import load_config
from flaxseg.config.flags import flag, flags_to_open
from flaxseg.errors import DataError


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
