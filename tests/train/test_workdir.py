"""A working directory belongs to one configuration, and to the data that its run began with."""

import json

import numpy as np
import pytest
from PIL import Image
from saved_run import DESCRIPTION

from flaxseg.config.schema import default_config
from flaxseg.data import folder
from flaxseg.errors import CheckpointError
from flaxseg.inference.description import read_description
from flaxseg.train.workdir import Workdir


def splits(root, stems="abcdef", **options):
    """Returns both splits of a folder of small pairs of image and mask with these names."""
    for name, array in (("images", np.zeros((2, 3, 3), np.uint8)), ("masks", np.arange(6, dtype=np.uint8) % 3)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for stem in stems:
            Image.fromarray(array.reshape(2, 3, -1).squeeze()).save(root / name / f"{stem}.png")
    return {name: folder(split, data_dir=str(root), **options) for name, split in (("train", "train"), ("eval", "val"))}


def claim_workdir(path, config, data):
    """Checks and claims a working directory in the order in which a run does."""
    workdir = Workdir(path)
    workdir.check_contents()
    workdir.check_config(config)
    workdir.check_data(data)
    workdir.claim(config, data, DESCRIPTION)


@pytest.fixture
def data(tmp_path):
    return splits(tmp_path / "data")


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path, data):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=r"file.*give a --workdir that"):
            claim_workdir(workdir, default_config(), data)


@pytest.mark.parametrize("names", [["per_image.csv"], ["checkpoints/7/state"], ["images/a.png"], ["notes.log/x"]])
def test_a_directory_that_is_not_a_runs_is_left_unchanged(tmp_path, data, names):
    path = tmp_path / "own"
    for name in [*names, ".hidden"]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    message = f"own: is not empty and contains no run of flaxseg, but {names[0].partition('/')[0]}; nothing was changed"
    with pytest.raises(CheckpointError, match=message):
        claim_workdir(path, default_config(), data)
    assert sorted(file.read_text() for file in path.rglob("*") if file.is_file()) == ["mine"] * 2


def test_only_a_few_foreign_names_are_listed(tmp_path, data):
    for name in "abcde":
        (tmp_path / "own" / name).mkdir(parents=True)
    with pytest.raises(CheckpointError, match="but a, b, c and 2 more; nothing"):
        claim_workdir(tmp_path / "own", default_config(), data)


def test_a_new_run_may_begin_beside_its_own_output_and_hidden_files(tmp_path, data):
    for name in ("log.txt", "slurm-17.out", "run.err", "train.log", ".git/config", ".DS_Store", "data.json.new"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("")
    claim_workdir(tmp_path / "run", default_config(), data)
    assert (tmp_path / "run" / "config.json").is_file()


@pytest.mark.parametrize(
    ("name", "is_directory"),
    [("checkpoints", False), ("images", False), ("config.json", True), ("data.json", True), ("samples.npz", True)],
)
def test_a_file_in_the_place_of_a_directory_is_one_error(tmp_path, data, name, is_directory):
    path = tmp_path / "run"
    claim_workdir(path, default_config(), data)
    (path / name).unlink(missing_ok=True)
    (path / name).mkdir() if is_directory else (path / name).write_text("mine")
    kinds = ("directory", "file") if is_directory else ("file", "directory")
    with pytest.raises(CheckpointError, match=f"{name}: is a {kinds[0]}, but a run has a {kinds[1]} of this name"):
        claim_workdir(path, default_config(), data)


def test_a_workdir_belongs_to_one_configuration(tmp_path, data):
    config = default_config()
    claim_workdir(tmp_path / "run", config, data)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["image_size"] == [128, 128]
    claim_workdir(tmp_path / "run", default_config(), data)
    config.seed = 1
    with pytest.raises(CheckpointError, match="config.seed: 0 in the directory, 1 in this run"):
        claim_workdir(tmp_path / "run", config, data)


@pytest.mark.parametrize(
    "key", ["log.every", "eval.batch_size", "checkpoint.keep", "data.dir", "mesh.fsdp", "train.steps", "eval.every"]
)
def test_some_keys_may_change_when_a_run_is_resumed(tmp_path, data, key):
    claim_workdir(tmp_path / "run", default_config(), data)
    config = default_config()
    group, name = key.split(".")
    config[group][name] = "/elsewhere" if key == "data.dir" else 7
    claim_workdir(tmp_path / "run", config, data)


def test_callbacks_may_change_when_a_run_is_resumed(tmp_path, data):
    config = default_config()
    claim_workdir(tmp_path / "run", config, data)
    config.train.callbacks, config.train.callback_options = ("wandb",), {"wandb": {"mode": "offline"}}
    claim_workdir(tmp_path / "run", config, data)


def test_a_foreign_file_is_refused_and_left_unchanged(tmp_path, data):
    (tmp_path / "config.json").write_text("not a configuration")
    with pytest.raises(CheckpointError, match="config.json is not a configuration of flaxseg"):
        claim_workdir(tmp_path, default_config(), data)
    assert (tmp_path / "config.json").read_text() == "not a configuration"


def test_a_run_is_resumed_with_its_own_data_only(tmp_path, data):
    run = tmp_path / "run"
    claim_workdir(run, default_config(), data)
    before = (run / "data.json").read_bytes()
    # The same files in another folder are the same data.
    claim_workdir(run, default_config(), splits(tmp_path / "moved"))
    others = {
        "train: 5 examples in the directory, 6 in this run": splits(tmp_path / "more", "abcdefg"),
        "train: as many examples (5), but not the same": splits(tmp_path / "renamed", "abcdeg"),
        "eval: the classes 0, 1, 2 in the directory, x, y, z in this run": splits(
            tmp_path / "named", class_names=("x", "y", "z")
        ),
    }
    for message, other in others.items():
        with pytest.raises(CheckpointError) as raised:
            claim_workdir(run, default_config(), other)
        assert "contains a run of other data" in str(raised.value) and message in str(raised.value)
        assert f"--config.model.pretrained={run} starts from the weights learned here" in str(raised.value)
    assert (run / "data.json").read_bytes() == before


def test_a_run_without_a_record_of_its_data_is_resumed(tmp_path, data):
    run = tmp_path / "run"
    claim_workdir(run, default_config(), data)
    (run / "data.json").unlink()
    claim_workdir(run, default_config(), data)
    for text in ("[]", '{"someones": "own"}', '{"train": {}, "eval": {}}'):
        (run / "data.json").write_text(text)
        with pytest.raises(CheckpointError, match="data.json is not a record of a run's data of flaxseg"):
            claim_workdir(run, default_config(), data)
        assert (run / "data.json").read_text() == text


def test_a_run_records_its_network_also_when_it_was_begun_without(tmp_path, data):
    run = tmp_path / "run"
    claim_workdir(run, default_config(), data)
    assert read_description(run / "model.json") == DESCRIPTION
    (run / "model.json").unlink()
    claim_workdir(run, default_config(), data)
    assert read_description(run / "model.json") == DESCRIPTION
