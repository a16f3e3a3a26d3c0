"""Whose working directory it is: of one configuration, and of the data that it was begun with."""

import json

import numpy as np
import pytest
from PIL import Image

from flaxseg.config.schema import default_config
from flaxseg.data import folder
from flaxseg.errors import CheckpointError
from flaxseg.train.workdir import claim_workdir


def splits(root, stems="abcdef", **options):
    """Both splits of a folder of such pairs."""
    for name, array in (("images", np.zeros((2, 3, 3), np.uint8)), ("masks", np.arange(6, dtype=np.uint8) % 3)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for stem in stems:
            Image.fromarray(array.reshape(2, 3, -1).squeeze()).save(root / name / f"{stem}.png")
    return {name: folder(split, data_dir=str(root), **options) for name, split in (("train", "train"), ("eval", "val"))}


@pytest.fixture
def given(tmp_path):
    return splits(tmp_path / "data")


def test_a_workdir_that_cannot_be_one(tmp_path, given):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=r"file.*give a --workdir that"):
            claim_workdir(workdir, default_config(), given)


def test_a_workdir_is_claimed_once(tmp_path, given):
    config = default_config()
    claim_workdir(tmp_path / "run", config, given)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["image_size"] == [128, 128]
    claim_workdir(tmp_path / "run", default_config(), given)
    config.seed = 1
    with pytest.raises(CheckpointError, match="config.seed: 0 there, 1 now"):
        claim_workdir(tmp_path / "run", config, given)


@pytest.mark.parametrize(
    "key", ["log.every", "eval.batch_size", "checkpoint.keep", "data.dir", "mesh.fsdp", "train.steps", "eval.every"]
)
def test_some_keys_may_change(tmp_path, given, key):
    claim_workdir(tmp_path, default_config(), given)
    config = default_config()
    group, name = key.split(".")
    config[group][name] = "/elsewhere" if key == "data.dir" else 7
    claim_workdir(tmp_path, config, given)


def test_a_directory_with_something_else_in_it_is_not_taken_over(tmp_path, given):
    (tmp_path / "config.json").write_text("not a configuration")
    with pytest.raises(CheckpointError, match="config.json is not a configuration of flaxseg"):
        claim_workdir(tmp_path, default_config(), given)
    assert (tmp_path / "config.json").read_text() == "not a configuration"


def test_a_run_goes_on_with_its_own_data_alone(tmp_path, given):
    run = tmp_path / "run"
    claim_workdir(run, default_config(), given)
    before = (run / "data.json").read_bytes()
    # The same files elsewhere are the same data.
    claim_workdir(run, default_config(), splits(tmp_path / "moved"))
    others = {
        "train: 5 examples there, 6 now": splits(tmp_path / "more", "abcdefg"),
        "train: 5 examples as there, but not the same ones": splits(tmp_path / "renamed", "abcdeg"),
        "eval: the classes 0, 1, 2 there, x, y, z now": splits(tmp_path / "named", class_names=("x", "y", "z")),
    }
    for message, other in others.items():
        with pytest.raises(CheckpointError) as raised:
            claim_workdir(run, default_config(), other)
        assert "holds a run of other data" in str(raised.value) and message in str(raised.value)
        assert f"--config.model.pretrained={run} starts from what was learnt here" in str(raised.value)
    assert (run / "data.json").read_bytes() == before


def test_a_run_of_before_data_was_recorded_goes_on(tmp_path, given):
    claim_workdir(tmp_path, default_config(), given)
    (tmp_path / "data.json").unlink()
    claim_workdir(tmp_path, default_config(), given)
    for text in ("[]", '{"someones": "own"}', '{"train": {}, "eval": {}}'):
        (tmp_path / "data.json").write_text(text)
        with pytest.raises(CheckpointError, match="data.json is not a record of a run's data of flaxseg"):
            claim_workdir(tmp_path, default_config(), given)
        assert (tmp_path / "data.json").read_text() == text
