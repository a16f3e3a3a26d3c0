"""A description of a network survives its file, and a damaged file is named."""

import dataclasses
import json

import pytest

from flaxseg.errors import ArgumentError, WeightsError
from flaxseg.inference.description import ModelDescription, read_description, resolved_options
from flaxseg.models import MODELS, build_model

DESCRIPTION = ModelDescription(
    name="unet",
    options={"encoder": "resnet18", "decoder_channels": (8, 8, 8, 8, 8)},
    num_classes=2,
    channels=1,
    image_size=(32, 48),
    class_names=("sky", "größer"),
    palette=((0, 0, 0), (1, 2, 255)),
    mean=(1.0, 2.0, 3.0),
    std=4.0,
    value_range=(0, 4095),
    versions={"jax": "0.10.2"},
)


def test_a_description_survives_its_file(tmp_path):
    (tmp_path / "model.json").write_text(DESCRIPTION.to_json(), encoding="utf-8")
    assert read_description(tmp_path / "model.json") == DESCRIPTION


def test_the_network_is_built_with_its_own_normalization_and_precision():
    model = dataclasses.replace(DESCRIPTION, precision="bfloat16").build()
    assert (model.mean, model.std, model.dtype.name) == ((1.0, 2.0, 3.0), 4.0, "bfloat16")
    assert model.decoder.decoder_channels == (8, 8, 8, 8, 8)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_network_is_rebuilt_from_its_resolved_options(name):
    options = resolved_options(name, {})
    model = build_model(name, num_classes=2)
    described = dataclasses.replace(DESCRIPTION, name=name, options=options, mean=model.mean, std=model.std)
    assert ModelDescription.from_json(described.to_json()).build() == model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 3}, "class_names = .*must be 3 names"),
        ({"palette": [[0, 0, 0], [0, 0, 300]]}, "palette = .*must be 2 colors"),
        ({"resize": "crop"}, "resize = 'crop': must be one of 'stretch', 'keep'"),
        ({"image_size": [32]}, "image_size = .*must be 2 integers"),
        ({"channels": True}, "channels = True: must be an integer"),
        ({"mean": "0"}, "mean = '0': must be a number"),
        ({"chanels": 3}, "unknown key 'chanels'; did you mean 'channels'"),
        ({"format": 2}, "was written by a newer version"),
        ({"format": None}, "was written by a newer version"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(tmp_path, change, message):
    file = tmp_path / "model.json"
    file.write_text(json.dumps({**json.loads(DESCRIPTION.to_json()), **change}))
    with pytest.raises(WeightsError, match=f"model.json: .*{message}"):
        read_description(file)


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "model.json"
    with pytest.raises(WeightsError, match="model.json: cannot be read"):
        read_description(file)
    for text, message in (("{", "is not JSON"), ("[]", "does not describe a network"), ("{}", "does not describe")):
        file.write_text(text)
        with pytest.raises(WeightsError, match=f"model.json: {message}"):
            read_description(file)
    content = json.loads(DESCRIPTION.to_json())
    del content["palette"]
    file.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="has no key 'palette'"):
        read_description(file)


def test_an_unknown_network_is_named():
    with pytest.raises(ArgumentError, match="did you mean 'unet'"):
        dataclasses.replace(DESCRIPTION, name="unett").build()


def test_an_option_of_an_earlier_version_that_changes_no_value_is_left_out():
    described = dataclasses.replace(DESCRIPTION, options={**DESCRIPTION.options, "remat": False})
    assert described.build() == DESCRIPTION.build()


def test_an_unknown_option_is_named_when_the_network_is_built():
    other = dataclasses.replace(DESCRIPTION, name="plain_unet", options={"wid": 4})
    with pytest.raises(ArgumentError, match="options.wid = 4: no such option"):
        other.build()


def test_a_deeply_nested_file_is_an_error(tmp_path):
    (tmp_path / "model.json").write_text(DESCRIPTION.to_json().replace('"resnet18"', "[" * 900 + "]" * 900))
    with pytest.raises(WeightsError, match="model.json: is not JSON .its values are nested more than 50 deep"):
        read_description(tmp_path / "model.json")
