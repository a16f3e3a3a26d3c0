"""The logs of a run that is killed and resumed are those of a run that was not, with either writer and with both."""

import json
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from logged_events import events

from flaxseg.config.files import load_config
from flaxseg.errors import ConfigError
from flaxseg.train.loop import train_and_evaluate

OVERRIDES = ["log.hardest=2", "log.images=1", "eval.metrics=('per_image',)"]

KILLED = f"""
import importlib.machinery, os, signal, sys, time
from pathlib import Path

workdir, writer, folder = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

class WithoutTensorFlow(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "tensorflow" else super().find_spec(name, path, target)

if writer == "tensorboard":
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = WithoutTensorFlow

from flaxseg.config.files import load_config
from flaxseg.main import main
from flaxseg.train.callbacks import Callback
from flaxseg.errors import ConfigError
from flaxseg.train.loop import train_and_evaluate

class Killer(Callback):
    # After the evaluation of step 6 and before its checkpoint.
    def on_evaluation(self, step, evaluation):
        if step == 6:
            while not list(workdir.glob("checkpoints/3/*.json")):
                time.sleep(0.01)
            assert ("tensorflow" in sys.modules) == (writer == "clu")
            os.kill(os.getpid(), signal.SIGKILL)

if writer == "tensorboard":
    tiny = ["train.steps=1", "data.image_size=(32,32)", "model.options.width=4", "model.options.depth=1"]
    flags = [f"--config.{{key}}" for key in [f"data.dir={{folder}}", "train.batch_size=8", *tiny]]
    assert main(["--config=configs/folder.py", f"--workdir={{folder}}/run", *flags]) == 0

train_and_evaluate(load_config("configs/shapes.py:tiny", {OVERRIDES!r}), workdir, callbacks=[Killer()])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder of ten images and masks of two classes."""
    directory, rng = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for name, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
        (directory / name).mkdir()
        for index in range(10):
            values = rng.integers(0, 256 if name == "images" else 2, shape, dtype=np.uint8)
            cv2.imwrite(str(directory / name / f"{index}.png"), values)
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the directories of two runs of six steps, by the writer of their events."""
    return {name: train(tmp_path_factory.mktemp(name), name) for name in ("clu", "tensorboard")}


@pytest.fixture(scope="module")
def expected(whole):
    """Returns the events of a run of six steps."""
    return comparable(whole["clu"])


@pytest.fixture(scope="module", params=["clu", "tensorboard"])
def killed(request, tmp_path_factory, folder):
    """Returns the directory of a run that was killed before the checkpoint of step 6; the second has no TensorFlow."""
    workdir = tmp_path_factory.mktemp("killed")
    arguments = [sys.executable, "-c", KILLED, str(workdir), request.param, str(folder)]
    process = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    # What is to be removed is there.
    assert [row["step"] for row in metrics(workdir)] == [2, 3, 3, 4, 6, 6]
    assert [step for step, _ in events(workdir)["train/loss"]] == [2, 3, 4, 6]
    assert (workdir / "images" / "0000006_predictions.png").exists()
    assert (workdir / "per_image.csv").read_text().splitlines()[1].startswith("6,")
    # A later figure that the resumed run will not write, and one that was not finished.
    shutil.copy(workdir / "images" / "0000006_predictions.png", workdir / "images" / "0000005_predictions.png")
    (workdir / "images" / "0000006_confusion_matrix.png").write_bytes(b"unfinished")
    return workdir


def train(workdir, writer):
    train_and_evaluate(load_config("configs/shapes.py:tiny", [*OVERRIDES, f"log.writer={writer}"]), workdir)
    return workdir


def metrics(workdir):
    return [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_times(row):
    return {name: value for name, value in row.items() if name != "wall_time" and "per_second" not in name}


def comparable(workdir):
    """Returns the events of a run without speeds, and without the hyper-parameter that names the writer."""
    found = events(workdir)
    ((_, (_, _, hparams)),) = found.pop("_hparams_/session_start_info")
    del hparams["log.writer"]
    for tag in found:
        if "per_second" in tag:
            found[tag] = [step for step, _ in found[tag]]
    return found, hparams


def test_metrics_have_a_row_for_each_logged_step_and_evaluation(whole):
    rows = metrics(whole["clu"])
    assert [(row["step"], "train/loss" in row, "eval/miou" in row) for row in rows] == [
        (2, True, False),
        (3, True, False),
        (3, False, True),
        (4, True, False),
        (6, True, False),
        (6, False, True),
    ]
    written = events(whole["clu"])
    for row in rows:
        for name in row.keys() - {"step", "wall_time"}:
            _, _, value = dict(written[name])[row["step"]]
            assert row[name] == pytest.approx(value, rel=1e-6), name


def test_both_writers_write_the_same_events_of_a_run(whole, expected):
    found, hparams = comparable(whole["tensorboard"])
    assert (found, hparams) == expected
    assert [step for step, _ in found["train/loss"]] == [2, 3, 4, 6]
    assert [step for step, _ in found["eval/predictions"]] == [3, 6]
    assert hparams["train.steps"] == ("number_value", 6.0)


@pytest.mark.parametrize("writer", [pytest.param("clu", marks=pytest.mark.long), "tensorboard"])
def test_logs_of_a_killed_run_have_no_step_twice_and_none_missing(whole, expected, killed, tmp_path, writer):
    workdir = train(shutil.copytree(killed, tmp_path, dirs_exist_ok=True), writer)
    assert comparable(workdir) == expected
    assert [without_times(row) for row in metrics(workdir)] == [without_times(row) for row in metrics(whole["clu"])]
    for name in ("hardest_examples.csv", "per_image.csv"):
        assert (workdir / name).read_bytes() == (whole["clu"] / name).read_bytes()
    assert files(workdir / "images") == files(whole["clu"] / "images")


def test_hardest_examples_are_listed_for_each_logged_step(whole):
    rows = (whole["clu"] / "hardest_examples.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", *(str(step) for step in (2, 2, 3, 3, 4, 4, 6, 6))]


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_clus_writer_without_tensorflow_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"^config\.log\.writer = 'clu': CLU's writer needs TensorFlow: .* 'tensorb"):
        train(tmp_path / "new", "clu")
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []
