"""What the configuration of a run says about its data, seen from another folder or given as --data."""

import json

import pytest
from saved_run import DESCRIPTION

from flaxseg.config.files import load_config
from flaxseg.deploy.evaluation_data import evaluation_config, note_on_training_images
from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import DataError


def saved_with(folder, **data):
    """Returns a network of a run that was trained on a folder, without weights."""
    config = load_config("folder", [f"data.{key}={value}" for key, value in data.items()])
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "data.json").write_text(json.dumps({"train": {"examples": 1200}, "eval": {"examples": 300}}))
    return SavedModel("run (step 5)", DESCRIPTION, None, {}, step=5, config=folder / "config.json", folder=folder)


def test_a_relative_path_of_the_data_is_explained_where_it_does_not_exist(tmp_path, monkeypatch):
    saved = saved_with(tmp_path / "old" / "run", dir="photos")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"config\.json: .* in photos, which is relative .*--config\.data\.dir=DIR"):
        evaluation_config(saved)
    assert evaluation_config(saved, overrides=["data.dir=elsewhere"]).data.dir == "elsewhere"
    assert evaluation_config(saved, data="elsewhere").data.dir == "elsewhere"
    (tmp_path / "photos").mkdir()
    assert evaluation_config(saved).data.dir == "photos"


def test_a_note_says_that_the_network_was_trained_on_the_images(tmp_path, monkeypatch):
    saved = saved_with(tmp_path / "run", dir=str(tmp_path / "photos"))
    monkeypatch.chdir(tmp_path)
    config = evaluation_config(saved, data="photos")
    note = note_on_training_images(saved, config, config.data.eval_split)
    assert note.startswith("note: run (step 5) was trained on 1,200 images of this folder, which may be among those")
    assert note.endswith(f"; flaxseg evaluate {tmp_path / 'run'}, without --data, takes those held out")
    assert not note_on_training_images(saved, evaluation_config(saved), "val")
    assert not note_on_training_images(saved, evaluation_config(saved, data="others"), "all")
    options = ["data.options.images=test"]
    assert not note_on_training_images(saved, evaluation_config(saved, data="photos", overrides=options), "all")
    everything = saved_with(tmp_path / "all", dir="photos", train_split="all", eval_split="")
    assert note_on_training_images(everything, config, "all").endswith("so that the scores are too high")


def test_images_and_masks_are_read_where_the_folders_of_the_run_do_not_exist(tmp_path):
    saved = saved_with(tmp_path / "run", dir="cells", options={"images": "{split}/image", "masks": "{split}/label"})
    given = {"values": (0, 255), "images": "{split}/image", "masks": "{split}/label"}
    for folder in ("both/val/image", "both/val/label", "both/images", "both/masks", "other/images", "other/masks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "none").mkdir()
    for name, split, expected in (
        ("both", "val", given),
        ("none", "val", given),
        ("other", "all", {"values": (0, 255)}),
    ):
        config = evaluation_config(saved, data=str(tmp_path / name), overrides=["data.options.values=(0,255)"])
        assert (config.data.options.to_dict(), config.data.eval_split) == (expected, split), name
