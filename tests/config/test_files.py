"""Configuration files and overrides of single keys."""

import re

import pytest

from flaxseg.config.files import load_config, override, own_files
from flaxseg.config.other_names import _CALLED_HERE
from flaxseg.config.schema import GROUP_KEYS, KEYS, default_config, leaves
from flaxseg.config.validate import validate
from flaxseg.errors import ConfigError


def test_an_override_of_class_weights_is_a_name_or_numbers():
    config = default_config()
    override(config, ["class_weights=median_frequency"])
    assert config.class_weights == "median_frequency"
    override(config, ["class_weights=(1, 2.5)", "optimizer.freeze=('encoder',)", "optimizer.lr_scale=(('head', 10),)"])
    assert config.class_weights == (1, 2.5)
    assert config.optimizer.freeze == ("encoder",) and config.optimizer.lr_scale == (("head", 10),)


def test_overrides_set_values_of_every_kind():
    config = default_config()
    texts = ("optimizer.learning_rate=3e-4", "data.image_size=(32,48)", "data.dir=/a=b", "model.options.width=4")
    override(config, (*texts, "loss_options.cross_entropy.label_smoothing=0.1"))
    assert config.optimizer.learning_rate == 3e-4
    assert config.data.image_size == (32, 48)
    assert config.data.dir == "/a=b"
    assert config.model.options.width == 4
    assert config.loss_options.cross_entropy.label_smoothing == 0.1
    validate(config)


def test_overrides_of_unknown_keys_are_all_named():
    with pytest.raises(ConfigError) as raised:
        override(default_config(), ("optimzier.learning_rate=1", "train.step=3", "los.dice=1", "seed"))
    message = str(raised.value)
    assert "config.optimzier.learning_rate: no such key; did you mean 'optimizer.learning_rate'?" in message
    assert "config.train.step: no such key; did you mean 'train.steps'?" in message
    assert "config.los.dice: no such key; did you mean 'loss.dice'?" in message
    assert "--config.seed: has no value; write --config.seed=VALUE" in message
    with pytest.raises(ConfigError) as raised:
        override(
            default_config(), ("model.options.width.x=1", "model.options.width=3", "data.nmae=x", "train.steps=-1")
        )
    message = str(raised.value)
    assert "config.data.nmae: no such key; did you mean 'data.name'?" in message
    assert "config.train.steps = -1: must be an integer of at least 0" in message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lr", "the learning rate is optimizer.learning_rate"),
        ("optimizer.lr", "the learning rate is optimizer.learning_rate"),
        ("batch_size", "the batch size is train.batch_size"),
        ("model.encoder_name", "the encoder is model.options.encoder"),
        ("model.encoder", r"did you mean 'model\.options\.encoder'\?"),
        ("encoder", r"did you mean 'model\.options\.encoder'\?"),
        ("optimizer.b1", r"did you mean 'optimizer\.options\.b1'\?"),
        ("train.step", r"did you mean 'train\.steps'\?"),
        ("data.crop_size", "the size of crops is data.image_size, with data.resize=keep"),
        ("model.encoder_weights", "initial weights are model.pretrained, as in model.pretrained=imagenet"),
    ],
)
def test_names_of_other_libraries_are_translated(key, hint):
    with pytest.raises(ConfigError, match=f"config.{key}: no such key; {hint}$"):
        override(default_config(), [f"{key}=1"])


def test_translations_name_keys_that_exist():
    named = {
        key for text in _CALLED_HERE.values() for key in re.findall(r"(?:data|model|optimizer|train)\.[\w.]*\w", text)
    }
    options = tuple(f"{group}." for group in GROUP_KEYS)
    assert named and all(key in KEYS or key.startswith(options) for key in named)


def test_names_may_be_separated_by_commas():
    config = default_config()
    override(config, ("eval.metrics=cross_entropy, calibration", "log.histograms=gradients", "train.callbacks="))
    assert config.eval.metrics == ("cross_entropy", "calibration") and config.log.histograms == ("gradients",)
    assert config.train.callbacks == ()
    validate(config)


def test_a_string_key_stays_a_string_and_a_value_has_no_keys():
    config = default_config()
    override(config, ("data.dir=2024", "model.options.width=3"))
    assert config.data.dir == "2024"
    with pytest.raises(ConfigError, match="config.model.options.width.x = 1: the part before the last dot is a value"):
        override(config, ("model.options.width.x=1",))


def test_files_that_come_with_flaxseg_have_names():
    assert load_config("pet:small").to_dict() == load_config("configs/pet.py:small").to_dict()
    assert list(own_files()) == ["camvid", "cityscapes", "folder", "pet", "shapes", "tfds", "voc"]
    message = r"--config=pets: there is no file pets; did you mean 'pet'\?; those that come with flaxseg are camvid, "
    with pytest.raises(ConfigError, match=message):
        load_config("pets")


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    (tmp_path / "pet").write_text("def get_config(variant=''):\n    raise ValueError('my own')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="my own"):
        load_config("pet")


def test_unusable_files_are_reported(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file configs/pets.py; did you mean 'configs/pet.py'"):
        load_config("configs/pets.py")
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match="defines no get_config"):
        load_config(str(tmp_path / "a.py"))
    (tmp_path / "b.py").write_text(
        "from flaxseg.config.schema import default_config\n"
        "def get_config(variant=''):\n"
        "    config = default_config()\n    config.modle.name = 'unet'\n    return config\n"
    )
    with pytest.raises(ConfigError, match=r"b.py, line 4: AttributeError.*modle"):
        load_config(str(tmp_path / "b.py"))
    (tmp_path / "c.py").write_text("def get_config(variant=''):\n    return nothing_of_the_kind\n")
    with pytest.raises(ConfigError, match=r"c.py, line 2: NameError: name 'nothing_of_the_kind' is not defined"):
        load_config(str(tmp_path / "c.py"))
    (tmp_path / "d.py").write_text("def get_config(variant=''):\n    pass\n")
    with pytest.raises(ConfigError, match=r"the configuration is None: get_config\(\) must return"):
        validate(load_config(str(tmp_path / "d.py")))
    with pytest.raises(ConfigError, match="variant 'big': the only variant is 'tiny'"):
        load_config("configs/shapes.py:big")


def test_the_configuration_of_a_run_is_read_back(tmp_path):
    """As it was: with groups whose contents depend on names, tuples, and numbers of the same type."""
    overrides = ["loss.dice=0.5", "data.options.size=(20,24)", "optimizer.lr_scale=(('encoder',0.1),)"]
    config = load_config("configs/shapes.py:tiny", overrides)
    (tmp_path / "config.json").write_text(config.to_json())
    for file in (str(tmp_path), str(tmp_path / "config.json")):
        found = load_config(file)
        validate(found)
        assert dict(leaves(found)) == dict(leaves(config))
        assert found.data.image_size == (32, 32) and isinstance(found.data.image_size, tuple)
    assert load_config(str(tmp_path), ["train.batch_size=3"]).train.batch_size == 3


def test_a_run_without_a_newer_key_has_its_default(tmp_path):
    config = default_config()
    del config.augment["hue"]
    (tmp_path / "config.json").write_text(config.to_json())
    assert dict(leaves(load_config(str(tmp_path)))) == dict(leaves(default_config()))


def test_other_files_and_folders_are_not_the_configuration_of_a_run(tmp_path):
    with pytest.raises(ConfigError, match=r"is a directory without the config.json of a run"):
        load_config(str(tmp_path))
    for text in ("{", "[]", '{"model_type": "unet"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"config.json: is not the configuration of a run"):
            load_config(str(tmp_path))
    (tmp_path / "config.json").write_text('{"trian": {"steps": 1}}')
    with pytest.raises(ConfigError, match=r"config.trian.steps.*did you mean 'train.steps'"):
        validate(load_config(str(tmp_path)))


@pytest.mark.parametrize(("text", "problem"), [
    ('{"a": ' + "[" * 100_000, "nested more than 50 deep"),
    ('{"augment": ' + "[" * 60 + "]" * 60 + ', "b": {}}', "its values are nested more than 50 deep"),
    ('{"augment": {"a.b": 1}}', "it has the key 'a.b'"),
    ('{"augment": {"' + "x" * 1000 + '": 1}}', "it has the key "),
])  # fmt: skip
def test_a_hostile_config_of_a_run_is_one_short_error(tmp_path, text, problem):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=f"config.json: is not the configuration of a run .*{problem}") as caught:
        load_config(str(tmp_path / "config.json"))
    assert len(str(caught.value)) < 500


def test_a_group_instead_of_a_number_is_an_error_of_the_key(tmp_path):
    (tmp_path / "config.json").write_text('{"auxiliary_weight": {"a": 1}}')
    with pytest.raises(ConfigError, match="config.auxiliary_weight"):
        validate(load_config(str(tmp_path / "config.json")))
