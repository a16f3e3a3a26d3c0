"""Files beside the summaries of a run that cannot be written: the run continues, and earlier ones are unchanged."""

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data.types import SegmentationDataset
from flaxseg.report import tensorboard
from flaxseg.report.tensorboard import Summaries


@pytest.fixture
def summaries(tmp_path):
    dataset = SegmentationDataset(ListSource([]), num_classes=1, class_names=("a",), palette=((0, 0, 0),))
    with Summaries(tmp_path, dataset) as opened:
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
    def save(path, image):
        path.write_bytes(b"unfinished")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard, "save_png", save)
    summaries._write_figure(1, "eval/predictions", np.zeros((2, 2, 3), np.uint8))
    assert list((tmp_path / "images").iterdir()) == []
    assert "0000001_predictions.png: cannot be written (No space left on device)" in capsys.readouterr().err
