"""Files beside the summaries of a run: those that cannot be written, and those of steps that a run repeats."""

from pathlib import Path

import numpy as np
import pytest
from list_source import ListSource
from logged_events import events

from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import CheckpointError
from flaxseg.report.hparams import HyperParameters
from flaxseg.report.tensorboard import Summaries


@pytest.fixture
def summaries(tmp_path):
    dataset = SegmentationDataset(ListSource([]), num_classes=1, class_names=("a",), palette=((0, 0, 0),))
    with Summaries(tmp_path, dataset, writer="tensorboard") as opened:
        yield opened


def test_a_table_is_replaced_wholly_or_not_at_all(tmp_path, summaries, capsys):
    summaries.per_image(1, ["x", "y"], np.array([0.5, 0.25]), np.array([0.5, 0.25]))
    before = (tmp_path / "per_image.csv").read_text()
    assert before == "step,id,iou,dice\n1,y,0.25,0.25\n1,x,0.5,0.5\n"
    (tmp_path / "per_image.csv.new").mkdir()
    for step in (2, 3):
        summaries.per_image(step, ["x"], np.array([1.0]), np.array([1.0]))
    assert (tmp_path / "per_image.csv").read_text() == before
    error = capsys.readouterr().err
    assert "per_image.csv.new: cannot be written (Is a directory); training continues" in error
    assert error.count("cannot be written") == 1


def test_an_unfinished_figure_is_removed(tmp_path, summaries, capsys, monkeypatch):
    write = Path.write_bytes

    def write_a_part(path, data):
        write(path, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_a_part)
    summaries._write_figure(1, "eval/predictions", np.zeros((2, 2, 3), np.uint8))
    assert list((tmp_path / "images").iterdir()) == []
    assert "0000001_predictions.png: cannot be written (No space left on device)" in capsys.readouterr().err


def test_figures_and_scores_of_later_steps_are_removed_when_a_run_is_resumed(tmp_path, summaries):
    images = tmp_path / "images"
    names = [
        "0000002_predictions.png",
        "0000003_predictions.png",
        "10000000_confusion_matrix.png",
        "0000009_mine.png",
        "0000003_worst.png",
        "0000003_batch.png",
    ]
    for name in [*names, "9_predictions.png", "0000009_reliability.png.txt"]:
        (images / name).write_bytes(b"unfinished")
    scores = np.array([0.5])
    summaries.per_image(2, ["x"], scores, scores)
    summaries.start(HyperParameters({}), "", {}, step=2)
    assert (tmp_path / "per_image.csv").exists()
    assert {path.name for path in images.iterdir()} == {
        names[0], names[3], "9_predictions.png", "0000009_reliability.png.txt"
    }  # fmt: skip
    summaries.start(HyperParameters({}), "", {}, step=1)
    assert not (tmp_path / "per_image.csv").exists()
    assert not (images / names[0]).exists() and (images / names[3]).exists()


def test_a_figure_that_cannot_be_removed_is_one_error(tmp_path, summaries):
    (tmp_path / "images" / "0000002_predictions.png").mkdir()
    with pytest.raises(CheckpointError, match=r"0000002_predictions\.png: cannot be read and removed \(.+\); make it"):
        summaries.start(HyperParameters({}), "", {}, step=1)


def test_the_configuration_stays_where_a_resumed_run_writes_no_events(tmp_path, summaries):
    summaries.start(HyperParameters({"a": 1}), "text", {})
    summaries.flush()
    before = events(tmp_path)
    with Summaries(tmp_path, summaries._dataset, writer="none") as later:
        later.start(HyperParameters({"a": 1}), "text", {}, step=2)
    assert "config" in before and events(tmp_path).keys() == before.keys()
