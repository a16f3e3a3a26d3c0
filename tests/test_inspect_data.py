"""The command from end to end: its findings, the settings that repair them, and the files that it leaves alone."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from flaxseg.config.files import load_config
from flaxseg.inspect_data import main
from flaxseg.main import main as train_main
from flaxseg.train.build import build

MASK = np.repeat([[2, 0, 0, 0, 1, 1, 1, 1]], 6, 0)
"""6 x 8 pixels: 6 of class 2, 18 of class 0, 24 of class 1."""


@pytest.fixture(autouse=True)
def _keep_log_levels(monkeypatch):
    monkeypatch.setattr("flaxseg.cli.prepare", lambda verbose: None)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def write_pair(root, split, stem, mask, seed):
    write(root / split / f"{stem}.png", np.random.default_rng(seed).integers(0, 256, (*np.shape(MASK), 3)))
    write(root / f"{split}annot" / f"{stem}.png", mask)


def write_good(root, train=4, val=2):
    for i in range(train):
        write_pair(root, "train", f"a{i}", MASK, i)
    for i in range(val):
        write_pair(root, "val", f"v{i}", MASK, 100 + i)


def cut(path):
    path.write_bytes(path.read_bytes()[:50])


def folder_flags(root, *more):
    options = "--config.data.options."
    places = (f"--config.data.dir={root}", f"{options}images={{split}}", f"{options}masks={{split}}annot")
    small = ["--config.data.image_size=(8,8)", "--config.train.batch_size=2", "--config.data.num_threads=2"]
    # Without augmentation there is nothing to compile.
    return ["--config=configs/folder.py", *places, *small, *WITHOUT_AUGMENTATION, *more]


WITHOUT_AUGMENTATION = ["--config.augment.scale=(1.0,1.0)"]
WITHOUT_AUGMENTATION += [f"--config.augment.{name}=0" for name in ("flip", "brightness", "contrast")]

NAMES = "--config.data.options.class_names=('sky','cat','dog')"


def inspect(capsys, output, *arguments, images=0):
    """Returns the exit status of the command, the text that it printed, and its JSON."""
    status = main([*arguments, f"--output={output}", f"--images={images}"])
    return status, capsys.readouterr().out, json.loads((output / "inspection.json").read_text())


def texts(values, severity):
    return [finding["text"] for finding in values["findings"] if finding["severity"] == severity]


def flags_of(values):
    return [flags for finding in values["findings"] for _, flags in finding["settings"]]


def test_help_explains_the_exit_status(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for part in ("--output DIR", "--images N", "exit status: 0, the dataset can be trained on", "1, it cannot"):
        assert part in text


def test_the_embedded_dataset_can_be_trained_on(tmp_path, capsys):
    status, text, values = inspect(capsys, tmp_path / "out", "--config=configs/shapes.py:tiny", images=3)
    assert status == 0 and values["trainable"]
    assert "This dataset can be trained on" in text and f"report  {tmp_path}/out/index.html" in text
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "index.html", "inspection.json", "train.png", "eval.png", "batch_0.png", "batch_1.png",
    }  # fmt: skip
    assert [row[0] for row in values["classes"][1:]] == ["background", "disc", "square", "triangle", "border"]
    assert values["facts"][1] == ["examples", "16", "16"]
    with Image.open(tmp_path / "out" / "batch_1.png") as sheet:
        assert sheet.size[0] == 1240


def test_every_suggested_setting_is_accepted_by_training(tmp_path, capsys):
    _, _, values = inspect(capsys, tmp_path / "out", "--config=configs/shapes.py:tiny")
    assert len(values["settings"]) == 4
    for flags in values["settings"].values():
        assert train_main(["--config=configs/shapes.py:tiny", *shlex.split(flags), "--print_config"]) == 0
        config = load_config("configs/shapes.py:tiny", [f.removeprefix("--config.") for f in shlex.split(flags)])
        if "class_weights" in flags:
            assert build(config).optim.class_weights == tuple(config.class_weights)


def test_every_defect_at_once(tmp_path, capsys):
    write_good(tmp_path)
    for stem, value in (("b0", 11), ("b1", 11)):
        write_pair(tmp_path, "train", stem, np.where(MASK == 2, value, MASK), value)
    write_pair(tmp_path, "train", "c", MASK[:3], 20)
    write_pair(tmp_path, "train", "d", MASK, 21)
    cut(tmp_path / "train" / "d.png")
    write_pair(tmp_path, "train", "e", np.full_like(MASK, 255), 22)
    write_pair(tmp_path, "train", "f", MASK, 1)
    write_pair(tmp_path, "val", "w", MASK, 2)
    status, text, values = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path, NAMES), images=3)
    assert status == 1 and not values["trainable"]
    facts = {row[0]: row[1:] for row in values["facts"]}
    assert facts["examples"] == ["10", "3"] and facts["unusable examples"] == ["4", "0"]
    assert facts["height"] == ["6", "6"] and facts["width"] == ["8", "8"]
    # One of six usable masks is fully ignored.
    assert facts["ignored pixels"] == ["16.67%", "0.00%"] and facts["fully ignored masks"] == ["1", "0"]
    assert values["classes"][1:] == [
        ["sky", "37.50%", "5", "37.50%", "3"],
        ["cat", "50.00%", "5", "50.00%", "3"],
        ["dog", "12.50%", "5", "12.50%", "3"],
    ]
    # 11 masks can be read, of 6 x 8 pixels each.
    unknown = f"2 masks contain 1 value that belongs to no class: 11 ({12 / (11 * 48):.2%} of all pixels, 2 masks). "
    assert texts(values, "error") == [
        unknown + "One of these settings may be right:",
        "2 of 10 train examples cannot be decoded, or their image and mask do not match; repair each, or remove both "
        "its files from the dataset. They are listed under unusable examples",
    ]
    assert "to train without the 4 unusable examples" in [w for f in values["findings"] for w, _ in f["settings"]]
    assert texts(values, "warning") == [
        "train: 1 of 6 masks are fully ignored and contribute nothing: e",
        "train: 1 image repeats another, pixel for pixel: a1 = f",
        "1 of 3 eval images are also in train, pixel for pixel, which inflates the scores: w (train: a2)",
    ]
    assert {"--config.data.options.ignore_values='(11,)'", "--config.data.skip_bad=4"} <= set(flags_of(values))
    assert [problem.split()[:2] for problem in values["unusable"]] == [["train", f"{i}:"] for i in (4, 5, 6, 7)]
    for part in ("trainannot/c.png: is 8x3", "train/d.png", "cannot be decoded"):
        assert part in text and part in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "train.png").exists() and not (tmp_path / "out" / "batch_0.png").exists()


def test_examples_that_training_skips_are_warnings(tmp_path, capsys):
    write_good(tmp_path)
    cut(tmp_path / "train" / "a1.png")
    write(tmp_path / "valannot" / "v0.png", np.where(MASK == 2, 11, MASK))
    status, _, values = inspect(
        capsys, tmp_path / "out", *folder_flags(tmp_path, NAMES, "--config.data.skip_bad=2"), images=1
    )
    assert status == 0 and texts(values, "error") == []
    assert "2 masks" not in str(values) and "1 mask contains 1 value" in texts(values, "warning")[0]
    assert "training skips them, as skip_bad = 2 allows" in texts(values, "warning")[1]
    assert (tmp_path / "out" / "batch_0.png").exists()


@pytest.mark.parametrize(
    ("mask", "names", "setting"),
    [
        (np.where(MASK == 2, 11, MASK), "('sky','cat')", "--config.data.options.ignore_values='(11,)'"),
        (
            np.where(MASK == 1, 255, 0),
            "('sky','cat') --config.data.options.values=(0,1)",
            "--config.data.options.values='(0,255)'",
        ),
        (
            np.where(MASK == 1, 128, 0),
            "('sky','cat') --config.data.options.values=(0,1)",
            "--config.data.options.values='(0,128)'",
        ),
        (MASK, "('cat','dog')", "--config.data.options.reduce_zero_label=True"),
        (
            MASK,
            "('cat','dog')",
            "--config.data.options.values='(0,1,2)' "
            """--config.data.options.class_names='("background","cat","dog")'""",
        ),
    ],
)
def test_suggested_setting_repairs_the_finding(tmp_path, capsys, mask, names, setting):
    for i in range(4):
        write_pair(tmp_path, "train", f"a{i}", mask, i)
        write_pair(tmp_path, "val", f"v{i}", mask, 100 + i)
    flags = folder_flags(tmp_path, *f"--config.data.options.class_names={names}".split())
    _, _, before = inspect(capsys, tmp_path / "out", *flags)
    assert setting in flags_of(before)
    status, _, after = inspect(capsys, tmp_path / "out", *flags, *shlex.split(setting))
    assert status == 0
    assert not texts(after, "error") and not any("never occur" in text for text in texts(after, "warning"))


def test_one_bad_mask_does_not_hide_others_where_values_are_inferred(tmp_path, capsys):
    write_good(tmp_path)
    cut(tmp_path / "trainannot" / "a0.png")
    write(tmp_path / "trainannot" / "a2.png", MASK[:3])
    status, text, values = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path))
    assert status == 1
    assert "cannot be opened" not in text and "2 of 4 train examples cannot be decoded" in text
    assert len(values["unusable"]) == 2 and "a2.png: is 8x3" in values["unusable"][1]
    assert "--config.data.skip_bad=2" in flags_of(values)
    status, _, _ = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path), "--config.data.skip_bad=2")
    assert status == 0


def test_missing_folders_of_both_splits_are_reported(tmp_path, capsys):
    flags = folder_flags(tmp_path / "nowhere", NAMES)
    assert main([*flags, f"--output={tmp_path / 'new' / 'out'}"]) == 1
    text = capsys.readouterr().out
    assert text.count("error: train and eval: cannot be opened: ") == 1 and "report" not in text
    assert f"the folder of the dataset, {tmp_path}/nowhere, does not exist" in text
    # There is nothing to show on a page.
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "out").mkdir()
    assert main([*flags, f"--output={tmp_path / 'out'}"]) == 1 and [*tmp_path.rglob("*")] == [tmp_path / "out"]


def test_classes_that_never_occur_beside_ignored_pixels(tmp_path, capsys):
    for split in ("train", "val"):
        for i in range(2):
            write_pair(tmp_path, split, f"{split}{i}", np.where(MASK == 1, 255, 0), i + 10 * (split == "val"))
    flags = folder_flags(tmp_path, "--config.data.options.values=(0,128)")
    status, _, values = inspect(capsys, tmp_path / "out", *flags)
    assert status == 1 and "train: only one class, 0, occurs in the masks" in texts(values, "error")[0]
    assert "--config.data.options.values='(0,255)'" in flags_of(values)
    assert not any("class weights" in name for name in values["settings"])


def test_unmatched_pairs_are_reported_beside_the_split_that_can_be_read(tmp_path, capsys):
    write_good(tmp_path)
    (tmp_path / "valannot" / "v1.png").unlink()
    status, _, values = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path, NAMES), images=1)
    assert status == 1
    assert "the image v1.png has no mask" in texts(values, "error")[0]
    assert values["facts"][0] == ["", "train (train)"] and values["classes"][0][1] == "train pixels"
    assert (tmp_path / "out" / "train.png").exists() and not (tmp_path / "out" / "eval.png").exists()


def test_lists_that_are_not_used_are_a_warning(tmp_path, capsys):
    for i in range(5):
        write_pair(tmp_path, "x", str(i), MASK, i)
    for split, stem in (("train", "0"), ("val", "3")):
        (tmp_path / f"{split}.txt").write_text(stem)
    flags = [flag.replace("{split}", "x") for flag in folder_flags(tmp_path, NAMES)] + ["--config.train.batch_size=1"]
    _, text, before = inspect(capsys, tmp_path / "out", *flags)
    assert before["facts"][3] == [
        "selection", "all but 1 held out at random", "held out at random from 5 (set split_list to choose them)",
    ]  # fmt: skip
    assert texts(before, "warning")[0].startswith(
        "the files are divided into train and val at random, and the lists train.txt and val"
    )
    setting = "--config.data.options.split_list='{split}.txt'"
    assert setting in flags_of(before) and not text.startswith("\n")
    _, _, after = inspect(capsys, tmp_path / "out", *flags, *shlex.split(setting))
    assert after["facts"][3] == ["selection", "from train.txt", "from val.txt"] and texts(after, "warning") == []
    assert setting not in flags_of(after)


def test_inferred_values_are_reported(tmp_path, capsys):
    write_good(tmp_path)
    status, _, values = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path))
    assert status == 0
    assert any("every value found in the masks is a class: 0 to 2" in text for text in texts(values, "note"))
    assert "--config.data.options.ignore_values='(2,)'" in flags_of(values)


def test_one_class_cannot_be_trained_on(tmp_path, capsys):
    for split in ("train", "val"):
        write_pair(tmp_path, split, "a", np.zeros_like(MASK), 1)
    status, _, values = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path))
    assert status == 1 and "has one class" in texts(values, "error")[0]


def test_wrong_arguments_are_reported_before_anything_is_read(tmp_path, capsys):
    output = f"--output={tmp_path}/out"
    assert main(["--config=configs/shapes.py", "--config.data.nmae=x", output]) == 1
    assert "config.data.nmae: no such key; did you mean 'data.name'?" in capsys.readouterr().err
    assert main(["--config=configs/shapes.py", "--images=-1", output]) == 1
    assert "--images = -1: must be an integer of at least 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_suggested_colors_repair_the_finding(tmp_path, capsys):
    table = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 255]], np.uint8)
    for i in range(3):
        write_pair(tmp_path, "train", f"a{i}", table[MASK], i)
        write_pair(tmp_path, "val", f"v{i}", table[MASK], 100 + i)
    status, _, before = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path))
    assert status == 1
    names = """--config.data.options.class_names='("black","blue","red")'"""
    setting = f"--config.data.options.colors='((0,0,0),(0,90,255),(200,0,0))' {names}"
    assert setting in flags_of(before) and len(texts(before, "error")) == 1
    status, _, after = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path), *shlex.split(setting))
    assert status == 0 and not texts(after, "error")
    two = "--config.data.options.colors=((0,0,0),(200,0,0))"
    status, text, some = inspect(capsys, tmp_path / "out", *folder_flags(tmp_path), two)
    assert status == 1 and "6 masks contain 1 color that belongs to no class: (0,90,255)" in text
    assert "--config.data.options.ignore_colors='((0,90,255),)'" in flags_of(some)
    names = """--config.data.options.class_names='("black","red","blue")'"""
    assert f"--config.data.options.colors='((0,0,0),(200,0,0),(0,90,255))' {names}" in flags_of(some)


def test_only_earlier_reports_are_overwritten(tmp_path, capsys):
    arguments = ["--config=configs/shapes.py:tiny", "--images=0", f"--output={tmp_path}", *WITHOUT_AUGMENTATION]
    (tmp_path / "index.html").write_text("mine")
    assert main(arguments) == 1
    assert "contains index.html, which inspect_data did not write; name another directory" in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("index.html", "mine")]
    (tmp_path / "index.html").rename(tmp_path / "notes.txt")
    for _ in range(2):
        assert main(arguments) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "train.png").exists() and (tmp_path / "batch_0.png").exists()
    assert main([*arguments[:2], f"--output={tmp_path}/notes.txt"]) == 1
    assert "is a file; name a directory" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["folder", "camvid"])
def test_suggested_settings_open_folders_of_splits_with_colored_masks(tmp_path, capsys, name):
    """As Kaggle's CamVid has them: masks of other names in train_labels/, whose colors are in a table."""
    colors = {"Background": (0, 0, 0), "Cat": (64, 128, 64), "Void": (255, 255, 255)}
    rows = [",".join(map(str, [name, *color])) for name, color in colors.items()]
    (tmp_path / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))
    for i, split in enumerate(["train", "train", "test", "test"]):
        write(tmp_path / split / f"{i}.png", np.random.default_rng(i).integers(0, 256, (*MASK.shape, 3)))
        write(tmp_path / f"{split}_labels" / f"{i}_L.png", np.array([*colors.values()])[MASK])
    size = ["--config.data.image_size=(8,8)", "--config.train.batch_size=2"]
    flags = [f"--config=configs/{name}.py", f"--config.data.dir={tmp_path}", *size]
    for _ in range(2):
        assert main([*flags, f"--output={tmp_path / 'out'}", "--images=0"]) == 1
        (suggested,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("    --config"))
        flags += shlex.split(suggested)
    status, _, values = inspect(capsys, tmp_path / "out", *flags)
    assert status == 0 and not texts(values, "error")
    assert [row[0] for row in values["classes"][1:]] == ["Background", "Cat"]
    assert values["facts"][1] == ["examples", "2", "2"] and values["facts"][0][2] == "eval (test)"
