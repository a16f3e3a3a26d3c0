"""Options of a configuration file after a name was changed on the command line."""

import pytest

from flaxseg.config.files import load_config
from flaxseg.config.validate import validate
from flaxseg.errors import ConfigError


def test_options_that_the_new_network_lacks_are_left_out(capsys):
    config = load_config("shapes", ["model.name=fpn", "model.options.encoder=resnet18"])
    assert config.model.options.to_dict() == {"encoder": "resnet18"}
    assert capsys.readouterr().err.splitlines() == [
        "config.model.options.depth = 3 is left out: 'fpn' has no such option",
        "config.model.options.width = 16 is left out: 'fpn' has no such option",
    ]
    validate(config)


def test_options_that_both_have_stay(capsys):
    config = load_config("shapes", ["model.name=attention_unet"])
    assert config.model.options.width == 16 and "width" not in capsys.readouterr().err


@pytest.mark.parametrize("overrides", [["model.name=fpn", "model.options.width=8"], ["model.options.widht=8"]])
def test_mistakes_on_the_command_line_stay_errors(overrides):
    with pytest.raises(ConfigError, match="no such option"):
        validate(load_config("shapes", overrides))


def test_a_mistake_in_the_file_stays_an_error(tmp_path):
    (tmp_path / "own.py").write_text(
        "from flaxseg.config.schema import default_config\n"
        "def get_config(variant=''):\n    config = default_config()\n"
        "    config.model.options = {'widht': 3}\n    return config\n"
    )
    with pytest.raises(ConfigError, match="config.model.options.widht = 3: no such option"):
        validate(load_config(str(tmp_path / "own.py"), ["model.name=fpn"]))


def test_unknown_names_are_left_to_the_validation(capsys):
    config = load_config("shapes", ["model.name=fnp", "optimizer.name=7"])
    assert config.model.options.width == 16 and capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="did you mean 'fpn'"):
        validate(config)


@pytest.mark.parametrize("key", ["data.num_classes", "model.num_classes"])
def test_the_number_of_classes_is_that_of_the_dataset(key):
    with pytest.raises(ConfigError, match=f"config.{key}: no such key; the classes are those of the dataset; for the"):
        load_config("folder", [f"{key}=3"])
