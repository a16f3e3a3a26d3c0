"""The commands evaluate and predict, as their user meets them."""

import csv
import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from saved_run import OVERRIDES, save_run

import flaxseg
from flaxseg import evaluate, export, predict
from flaxseg.deploy.files import write_file
from flaxseg.errors import DataError
from flaxseg.train.compile import compile_run
from flaxseg.train.evaluation import evaluate as evaluate_run

CLASSES = ("background", "disc", "square", "triangle", "border")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns directory, run and states of a run whose best checkpoint is its first."""
    directory = tmp_path_factory.mktemp("run")
    _, run, states = save_run(directory, scores={2: 0.5, 4: 0.3})
    return directory, run, states


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Returns a folder of three images of two sizes, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (20, 27)), ("b.jpg", (30, 41)), ("day1/a.png", (20, 27))):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


def rows(path):
    return list(csv.reader(path.read_text().splitlines()))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_evaluate_prints_and_writes_the_scores_of_training(run, tmp_path, capsys):
    directory, built, states = run
    expected = evaluate_run(built, compile_run(built, states[4]), states[4], shows_images=False).metrics
    arguments = [str(directory), "--step=4", "--json", str(tmp_path / "s.json"), "--csv", str(tmp_path / "i.csv")]
    assert evaluate.main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{directory} (step 4) on shapes, split test: 16 images\n\n")
    assert expected.table(CLASSES) in text
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["confusion"] == expected.confusion.counts.tolist()
    scores = expected.compute()
    assert {name: found["scores"][name] for name in scores} == pytest.approx(scores, nan_ok=True)
    assert found["classes"]["disc"]["pixels"] == expected.confusion.counts[1].sum()
    assert (found["model"], found["step"], found["images"]) == (f"{directory} (step 4)", 4, 16)
    table = rows(tmp_path / "i.csv")
    assert table[0] == ["id", "miou", "mean_dice", *(f"iou {name}" for name in CLASSES)]
    assert len(table) == 17 and table[3][0] == built.data.evaluation.source.example_id(2)
    assert np.mean([float(row[1]) for row in table[1:]]) == pytest.approx(found["scores"]["per_image/miou"], abs=1e-6)


def test_evaluate_takes_another_split_and_other_metrics(run, capsys):
    arguments = [str(run[0]), "--split=train", "--metrics=boundary", "--config.data.options.count=3"]
    assert evaluate.main(arguments) == 0
    text = capsys.readouterr().out
    assert "on shapes, split train: 3 images" in text and "\nboundary: " in text


def test_evaluate_takes_the_network_as_predict_does(run, capsys):
    tables = []
    for network in ([str(run[0])], ["--model", str(run[0])], [f"--model={run[0]}"]):
        assert evaluate.main(["--metrics=", *network]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0].startswith(f"{run[0]} (step ") and tables[1:] == tables[:1] * 2
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(["--metrics="])
    assert "error: which network? Give a run or another MODEL" in capsys.readouterr().err


def test_all_commands_take_the_network_in_the_same_way(photos, tmp_path, capsys):
    for command, arguments in ((predict, [f"--input={photos}"]), (export, [])):
        arguments = [*arguments, f"--output={tmp_path / 'out'}"]
        for network in (["nowhere"], ["--model", "nowhere"]):
            assert command.main([*arguments, *network]) == 1
            assert "nowhere: does not exist" in capsys.readouterr().err
        with pytest.raises(SystemExit, match="2"):
            command.main(arguments)
        name = command.__name__.rpartition(".")[2]
        assert f"which network? Give a run or another MODEL, as in flaxseg {name} runs/pet" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        export.main(["a", "b", "--output=c"])
    assert "one network is exported, but 2 are given: a, b" in capsys.readouterr().err


def test_evaluate_takes_a_folder_and_another_configuration(run, tmp_path, capsys):
    """Of masks that equal the predictions; the classes are the network's."""
    model = flaxseg.load(run[0])
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    image = np.random.default_rng(0).integers(0, 256, (20, 27, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "images" / "a.png")
    Image.fromarray(model(image)).save(tmp_path / "masks" / "a.png")
    assert evaluate.main([str(run[0]), "--data", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"on folder {tmp_path}, split all, masks of class indices: 1 images" in text
    assert re.search(r"pixel accuracy +1\.0000", text)
    options = ["--config=configs/folder.py", f"--config.data.dir={tmp_path}", "--split=all"]
    assert evaluate.main([str(run[0]), *options, f"--config.data.options.class_names={CLASSES}"]) == 0
    assert re.search(r"pixel accuracy +1\.0000", capsys.readouterr().out)


def test_masks_are_those_that_the_network_was_trained_on_for_a_run_and_for_its_export(tmp_path, capsys):
    """The run's masks have the values 1 and 2; indices 0 and 1 are other values."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (20, 27, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "data" / "images" / "a.png")
    label = (image[..., 0] > 127).astype(np.uint8)
    Image.fromarray(label + 1).save(tmp_path / "data" / "masks" / "a.png")
    overrides = [
        "data.name=folder", f"data.dir={tmp_path / 'data'}", "data.train_split=all", "data.eval_split=all",
        "data.options={}", "data.options.values=(1,2)", "data.options.class_names=('a','b')", "mesh.data=1",
        "train.batch_size=1", "log.images=0",
    ]  # fmt: skip
    save_run(tmp_path / "run", scores={1: 0.5}, overrides=overrides)
    assert export.main([f"--model={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--images=1"]) == 0
    mask = flaxseg.load(tmp_path / "run")(image)
    expected = [[int(((label == i) & (mask == j)).sum()) for j in range(2)] for i in range(2)]
    for model in ("run", "out"):
        capsys.readouterr()
        arguments = [str(tmp_path / model), f"--data={tmp_path / 'data'}", f"--json={tmp_path / model}.json"]
        assert evaluate.main(arguments) == 0
        assert "masks with the values (1, 2): 1 images" in capsys.readouterr().out
        assert json.loads((tmp_path / f"{model}.json").read_text())["confusion"] == expected
    shutil.rmtree(tmp_path / "data" / "masks")
    assert predict.main([f"--model={tmp_path / 'run'}", "--split=all", f"--output={tmp_path / 'predicted'}"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "predicted" / "masks" / "a.png")), mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--step=3"], "has no checkpoint of step 3; steps there: 2, 4"),
        (["{run}", "--split=tset"], "config.data.eval_split = 'tset'"),
        (["{run}", "--metrics=iou"], "metrics = 'iou': must be one of 'per_image'"),
        (["{run}", "--config.data.nmae=x"], "config.data.nmae: no such key"),
        (["{run}", "--json={run}/config.json"], "config.json: exists; give another name, or --overwrite"),
        (["{run}", "--csv={run}"], "is a folder; give the name of a file"),
        (["{run}", "--data={run}/nowhere"], "nowhere"),
        (["{run}", "--config=configs/folder.py:binary", "--data=examples"], "examples"),
        (["nowhere"], "nowhere: does not exist; give the directory of a run"),
    ],
)
def test_mistakes_in_evaluate_are_one_message(run, arguments, message, capsys):
    assert evaluate.main([argument.format(run=run[0]) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_an_export_records_no_data(run, tmp_path, capsys):
    (tmp_path / "checkpoints").symlink_to(run[0] / "checkpoints")
    (tmp_path / "model.json").symlink_to(run[0] / "model.json")
    assert evaluate.main([str(tmp_path)]) == 1
    assert "records no data to evaluate on, because it is not a run; give --config=FILE" in capsys.readouterr().err


def test_predict_writes_masks_overlays_probabilities_and_a_summary(run, photos, tmp_path, capsys):
    arguments = [f"--model={run[0]}", f"--input={photos}", f"--output={tmp_path}", "--overlay", "--probabilities"]
    assert predict.main(arguments) == 0
    stems = ("a", "b", "day1/a")
    expected = ["prediction.json", "summary.csv"]
    expected += [f"{kind}/{stem}{suffix}" for stem in stems for kind, suffix in (
        ("masks", ".png"), ("overlays", ".png"), ("probabilities", ".npz"))]  # fmt: skip
    assert files(tmp_path) == sorted(expected)
    model, table = flaxseg.load(run[0]), rows(tmp_path / "summary.csv")
    assert table[0] == ["image", "mask", "height", "width", *CLASSES]
    for stem, name, row in zip(stems, ("a.png", "b.jpg", "day1/a.png"), table[1:], strict=True):
        label, mask = model(photos / name), Image.open(tmp_path / "masks" / f"{stem}.png")
        assert mask.mode == "P"
        assert mask.getpalette()[:15] == [value for color in model.palette for value in color]
        np.testing.assert_array_equal(np.asarray(mask), label)
        overlay = np.asarray(Image.open(tmp_path / "overlays" / f"{stem}.png"))
        np.testing.assert_array_equal(overlay[: len(label)], model.overlay(photos / name))
        assert overlay.shape[0] > len(label)  # the legend
        stored = np.load(tmp_path / "probabilities" / f"{stem}.npz")["probabilities"]
        assert stored.dtype == np.float16
        np.testing.assert_array_equal(stored, model.probabilities(photos / name).astype(np.float16))
        areas = np.bincount(label.ravel(), minlength=5)
        assert row == [str(photos / name), f"masks/{stem}.png", *map(str, label.shape), *map(str, areas)]
    assert "3 images predicted" in capsys.readouterr().out


def test_an_ensemble_is_evaluated_and_predicts_with_its_uncertainty(run, photos, tmp_path, capsys):
    paths = [str(run[0] / "checkpoints" / step) for step in ("2", "4")]
    copies = ["--flips=horizontal"]
    model = flaxseg.load(paths, flips=("horizontal",))
    assert evaluate.main([*paths, *copies, "--config", str(run[0]), "--json", str(tmp_path / "s.json")]) == 0
    counts = json.loads((tmp_path / "s.json").read_text())["confusion"]
    assert counts == model.evaluate(run[1].data.evaluation).confusion.counts.tolist()
    assert f"{model.name} on shapes" in capsys.readouterr().out
    out = ["--input", str(photos / "b.jpg"), "--output"]
    for kind, most in (("entropy", np.log(5)), ("disagreement", np.log(2))):
        arguments = ["--model", *paths, *copies, *out, str(tmp_path / "out"), f"--uncertainty={kind}"]
        assert predict.main(arguments) == 0, capsys.readouterr().err
        gray = np.asarray(Image.open(tmp_path / "out" / kind / "b.png"))
        expected = 255 * model.uncertainty(photos / "b.jpg", kind) / most
        assert gray.dtype == np.uint8 and np.abs(gray - expected).max() < 0.51
        assert gray.max() > 20
    # The same networks without the copies would predict something else.
    assert predict.main(["--model", *paths, *out, str(tmp_path / "out")]) == 1
    assert "but these are with other scales, flips or tiles; give another --output" in capsys.readouterr().err
    arguments = ["--model", paths[0], *out, str(tmp_path / "one"), "--uncertainty=disagreement"]
    assert predict.main(arguments) == 1
    assert "kind = 'disagreement': needs an ensemble" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--scales=0", "scales = 0.0: must be a number above 0"),
        ("--flips=up", "flips = 'up': must be one of 'horizontal', 'vertical', 'both'"),
        ("--tiling=exact", "tiling = 'exact': this network was trained on images that were resized to"),
        ("--halo=8", "halo = 8: this network was trained on images that were resized to"),
    ],
)
def test_mistakes_in_how_to_predict_are_one_message(run, photos, tmp_path, capsys, argument, message):
    assert predict.main([f"--model={run[0]}", f"--input={photos}", f"--output={tmp_path / 'out'}", argument]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_in_a_folder_of_images_are_pointed_out(run, photos, tmp_path, capsys):
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.png").write_bytes((photos / "a.png").read_bytes())
    assert predict.main([f"--model={run[0]}", f"--input={inputs}", f"--output={inputs / 'out'}"]) == 0
    captured = capsys.readouterr()
    assert "out lies in an input folder; a dataset of that folder would include it" in captured.err
    assert "1 image predicted" in captured.out


def test_nothing_predicted_is_nowhere(run, tmp_path, capsys):
    (tmp_path / "note.txt").write_text("hello\n")
    arguments = [f"--model={run[0]}", f"--input={tmp_path}/note.txt", f"--output={tmp_path}/out"]
    assert predict.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out.endswith(": 0 images predicted\n")
    assert "error: 1 of 1 image was not predicted:" in captured.err
    assert captured.err.endswith("(it begins with b'hello\\n'); restore it, or leave it out\n")


def test_a_wrong_input_and_a_missing_model_are_one_message(tmp_path, capsys):
    arguments = [f"--model={tmp_path}/smal", f"--input={tmp_path}", f"--output={tmp_path}/out"]
    assert predict.main(arguments) == 1
    first, *problems = capsys.readouterr().err.splitlines()
    assert first == "error: 2 problems:" and problems[0].startswith(f"  {tmp_path}: contains no images")
    assert f"{tmp_path}/smal" in problems[1]


def test_predict_keeps_what_is_done(run, photos, tmp_path, capsys):
    arguments = [f"--model={run[0]}", f"--input={photos}", f"--output={tmp_path}", "--batch_size=2"]
    assert predict.main(arguments) == 0
    whole = (tmp_path / "summary.csv").read_text()
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    (tmp_path / "masks" / "b.png").unlink()
    assert predict.main(arguments) == 0
    assert "1 image predicted, 2 were there before" in capsys.readouterr().out
    assert (tmp_path / "summary.csv").read_text() == whole
    changed = {name for name in times if (tmp_path / name).stat().st_mtime_ns != times[name]}
    assert {name for name in changed if name.startswith("masks")} == {"masks/b.png"}
    os.utime(photos / "b.jpg")
    assert predict.main(arguments) == 0
    assert "1 image predicted, 2 were there before" in capsys.readouterr().out
    assert predict.main([*arguments, "--overwrite"]) == 0
    assert "3 images predicted;" in capsys.readouterr().out
    assert predict.main([*arguments, "--step=4"]) == 1
    error = capsys.readouterr().err
    assert f"contains predictions of {run[0]} (step 2), but these are of {run[0]} (step 4)" in error
    assert predict.main([*arguments, "--step=4", "--overwrite"]) == 0


def test_images_that_cannot_be_read_are_reported_at_the_end(run, photos, tmp_path, capsys):
    inputs = tmp_path / "in"
    for number in range(7):
        (inputs / f"{number}.png").parent.mkdir(exist_ok=True)
        (inputs / f"{number}.png").write_bytes((photos / "a.png").read_bytes())
    (inputs / "2.png").write_bytes((photos / "a.png").read_bytes()[:200])
    (inputs / "4.npy").write_bytes(b"")
    np.save(inputs / "5.npy", np.zeros((8, 9, 6), np.uint8))
    (inputs / "5.png").unlink()
    assert predict.main([f"--model={run[0]}", f"--input={inputs}", f"--output={tmp_path}/out", "--batch_size=2"]) == 1
    captured = capsys.readouterr()
    assert files(tmp_path / "out" / "masks") == ["0.png", "1.png", "3.png", "4.png.png", "6.png"]
    assert captured.out.splitlines()[0].endswith(f"5 images predicted; results in {tmp_path}/out")
    assert captured.out.splitlines()[1] == "of the pixels of 5 images:"
    assert "error: 3 of 8 images were not predicted:" in captured.err
    for message in (
        "2.png: cannot be decoded",
        "4.npy: is empty (0 bytes)",
        "5.npy: has 6 channels, but the network",
    ):
        assert message in captured.err
    assert len(rows(tmp_path / "out" / "summary.csv")) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input={photos}", "--output={photos}"], "is the folder of the images and of the results"),
        (["--input={photos}/none", "--output={out}"], "none: does not exist"),
        (["--output={out}"], "give either --input=PATH, or --split=NAME for a split of the dataset"),
        (["--input={photos}", "--split=test", "--output={out}"], "--input and --split name different images: give one"),
        (["--split=test", "--output={out}"], "the images of the dataset shapes are not files of their own; give the"),
        (["--input={photos}", "--output={photos}/a.png"], "a.png: is a file; give the name of a folder"),
        (["--input={photos}", "--output={out}", "--batch_size=0"], "batch_size = 0"),
        (["--input={photos}", "--output={out}", "--step=9"], "has no checkpoint of step 9"),
    ],
)
def test_mistakes_in_predict_are_one_message(run, photos, tmp_path, arguments, message, capsys):
    before = files(photos)
    given = [argument.format(photos=photos, out=tmp_path / "out") for argument in arguments]
    assert predict.main([f"--model={run[0]}", *given]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert files(photos) == before and not (tmp_path / "out").exists()


def test_files_of_the_user_are_neither_replaced_nor_taken_for_results(run, photos, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes((photos / "a.png").read_bytes())
    before = (tmp_path / "masks" / "a.png").read_bytes()
    arguments = [f"--model={run[0]}", f"--output={tmp_path}"]
    assert predict.main([*arguments, f"--input={photos}"]) == 1
    assert "has masks, which this command has not written; give another --output, or" in capsys.readouterr().err
    assert predict.main([*arguments, f"--input={tmp_path / 'masks' / 'a.png'}", "--overwrite"]) == 1
    assert "masks/a.png: would be replaced by a result; give another --output" in capsys.readouterr().err
    assert files(tmp_path) == ["masks/a.png"] and (tmp_path / "masks" / "a.png").read_bytes() == before


def test_no_space_left_is_one_message_and_leaves_no_half_file(run, photos, tmp_path, monkeypatch, capsys):
    write_bytes = Path.write_bytes

    def full(path, data):
        if "b.png" in path.name:
            write_bytes(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert predict.main([f"--model={run[0]}", f"--input={photos}", f"--output={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert "error: " in error and "masks/b.png: there is no space left to write it; free some" in error
    assert not [name for name in files(tmp_path) if "b.png" in name]
    assert "masks/a.png" in files(tmp_path)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/a.png: cannot be written"):
        write_file(tmp_path / "file" / "a.png", b"")


def test_help_shows_how(capsys):
    for command, part in ((evaluate, "runs/pet --step=700"), (predict, "--input=photos --output=predictions")):
        with pytest.raises(SystemExit) as stopped:
            command.main(["--help"])
        assert stopped.value.code == 0
        assert part in capsys.readouterr().out


def test_a_run_is_a_configuration(run):
    from flaxseg.cli import run_name
    from flaxseg.main import main

    assert main([f"--config={run[0]}", "--config.train.steps=7", "--print_config"]) == 0
    assert run_name(str(run[0])) == run_name(f"{run[0]}/config.json") == run[0].name
    assert OVERRIDES[1] == "data.options.size=(20,27)"
