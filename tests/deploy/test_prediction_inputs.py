"""Which images the arguments name, and what their results are called."""

import pytest

from flaxseg.config.files import load_config
from flaxseg.deploy.prediction_inputs import find_images, recorded_masks, split_images
from flaxseg.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "day1/a.png", "day1/deep/c.tif", "notes.txt", ".hidden.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    return tmp_path / "in"


def stems(*inputs, output):
    return {image.stem: image.path for image in find_images([str(each) for each in inputs], output=output)}


def test_a_folder_keeps_its_structure(folder, tmp_path):
    found = stems(folder, output=tmp_path / "out")
    assert found == {stem: str(folder / name) for stem, name in (
        ("a", "a.PNG"), ("b", "b.jpg"), ("day1/a", "day1/a.png"), ("day1/deep/c", "day1/deep/c.tif"))}  # fmt: skip


def test_a_pattern_keeps_the_structure_below_its_plain_part(folder, tmp_path, monkeypatch):
    assert stems(folder / "**" / "*.png", output=tmp_path / "out") == {"day1/a": str(folder / "day1" / "a.png")}
    monkeypatch.chdir(folder)
    assert stems("d*/*.png", output=tmp_path / "out") == {"day1/a": "day1/a.png"}


def test_a_file_keeps_its_name_whatever_its_extension(folder, tmp_path):
    assert list(stems(folder / "day1" / "a.png", folder / "notes.txt", output=tmp_path / "out")) == ["a", "notes"]


def test_names_that_differ_in_their_extension_keep_it(folder, tmp_path):
    (folder / "b.png").touch()
    assert list(stems(folder, output=tmp_path / "out"))[:3] == ["a", "b.jpg", "b.png"]


def test_an_image_that_is_named_twice_is_predicted_once(folder, tmp_path):
    assert list(stems(folder / "b.jpg", folder / "*.jpg", output=tmp_path / "out")) == ["b"]


def test_results_below_the_input_are_not_predicted_again(folder):
    (folder / "out" / "masks").mkdir(parents=True)
    (folder / "out" / "masks" / "a.png").touch()
    assert "out/masks/a" not in stems(folder, output=folder / "out")
    assert list(stems(folder / "**" / "a.png", output=folder / "out")) == ["day1/a"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["in"], "is the folder of the images and of the results"),
        (["none"], "none: does not exist; give a file, a folder, or a pattern"),
        (["in/*.bmp"], r"\*.bmp: no file matches this pattern"),
        (["empty"], "empty: contains no images; files of these types are read: .jpg"),
        (["in/day1/a.png", "other/a.png"], "their results would have the same name, a.png"),
    ],
)
def test_mistakes_are_named(folder, tmp_path, monkeypatch, inputs, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").touch()
    with pytest.raises(DataError, match=message):
        stems(*inputs, output=folder)


def test_a_split_of_a_dataset_needs_no_masks(tmp_path):
    for name in ("train/a.png", "test/x/b.jpg", "train_masks/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    layout = ["data.options.images={split}", "data.options.masks={split}_masks"]
    config = load_config("folder", [f"data.dir={tmp_path}", *layout])
    found = split_images(config, "test")
    assert [(image.path, image.stem) for image in found] == [(str(tmp_path / "test/x/b.jpg"), "x/b")]
    with pytest.raises(DataError, match=r"the folder .*/tset does not exist"):
        split_images(config, "tset")
    with pytest.raises(DataError, match="the dataset shapes are not files of their own; give the images to predict as"):
        split_images(load_config("shapes"), "test")
    with pytest.raises(ConfigError, match="no such split"):
        split_images(load_config("folder", [f"data.dir={tmp_path}"]), "test")


def saved_configuration(path, *overrides):
    """Writes the configuration of a run into a folder, and returns the folder."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(load_config("configs/folder.py", overrides).to_json())
    return str(path)


def test_masks_beside_their_images_are_left_out(tmp_path):
    for name in ("a.jpg", "a_mask.png", "day/b.jpg", "day/b_mask.png", "c_mask.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    options = ("data.options.images=.", "data.options.masks=.", "data.options.mask_suffix=_mask")
    given = {"output": tmp_path / "out", "masks": recorded_masks(saved_configuration(tmp_path / "run", *options))}
    lines = []
    found = find_images([str(tmp_path / "in")], **given, announce=lines.append)
    # A file that is no other's mask may be an image.
    assert [image.stem for image in found] == ["a", "c_mask", "day/b"]
    text = f"{tmp_path / 'in'}: 2 masks are left out, such as a_mask.png; name a file to predict it"
    assert lines == [text]
    (named,) = find_images([str(tmp_path / "in" / "a_mask.png")], **given)
    assert named.stem == "a_mask"
    assert len(find_images([str(tmp_path / "in")], output=tmp_path / "out")) == 5


def test_masks_in_a_folder_of_their_own_are_left_out(tmp_path):
    for name in ("images/a.jpg", "masks/a.png", "masks/z.png", "a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    given = {"output": tmp_path / "out", "masks": recorded_masks(saved_configuration(tmp_path / "run"))}
    assert [image.stem for image in find_images([str(tmp_path / "in")], **given)] == ["a", "images/a", "masks/z"]
    assert [image.stem for image in find_images([str(tmp_path / "in" / "masks")], **given)] == ["a", "z"]


@pytest.mark.parametrize("text", ['{"architectures": ["Net"], "id2label": {}}', "[]", "{"])
def test_a_network_that_records_no_folder_has_no_masks(tmp_path, text):
    assert recorded_masks(str(tmp_path)) is None
    (tmp_path / "config.json").write_text(text)
    assert recorded_masks(str(tmp_path)) is None
    (tmp_path / "config.json").write_text(load_config("configs/shapes.py", []).to_json())
    assert recorded_masks(str(tmp_path)) is None
