"""The samples that a run stores: which process writes them, and what happens where they cannot be written."""

import dataclasses
import types

import numpy as np
import pytest
from list_source import ListSource
from saved_run import DESCRIPTION

from flaxseg.data.stored_samples import read_samples
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import CheckpointError
from flaxseg.train import writers
from flaxseg.train.writers import SampleWriter


def run(size=(24, 12)):
    examples = [
        {"image": np.full((*size, 3), i, np.uint8), "label": np.zeros(size, np.uint8), "id": str(i)} for i in (0, 1)
    ]
    dataset = SegmentationDataset(ListSource(examples), num_classes=1, class_names=("a",), palette=((0, 0, 0),))
    return types.SimpleNamespace(data=types.SimpleNamespace(to_show=dataset))


@pytest.mark.parametrize(("changes", "shape"), [({}, (8, 8)), ({"resize": "keep", "scale": 0.5}, (8, 6))])
def test_samples_are_as_the_network_takes_them(tmp_path, changes, shape):
    SampleWriter(tmp_path / "samples.npz", dataclasses.replace(DESCRIPTION, **changes)).on_start(run(), None)
    assert [sample.label.shape for sample in read_samples(tmp_path / "samples.npz")] == [shape] * 2


def test_only_the_first_process_writes_and_only_once(tmp_path, monkeypatch):
    writer = SampleWriter(tmp_path / "samples.npz", DESCRIPTION)
    monkeypatch.setattr(writers.jax, "process_index", lambda: 1)
    writer.on_start(run(), None)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(writers.jax, "process_index", lambda: 0)
    (tmp_path / "samples.npz").write_text("earlier")
    writer.on_start(run(), None)
    assert (tmp_path / "samples.npz").read_text() == "earlier"


def test_a_directory_that_cannot_be_written_to_is_one_error(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"samples\.npz: cannot be written \(No such file or directory\); free space"
    ):
        SampleWriter(tmp_path / "none" / "samples.npz", DESCRIPTION).on_start(run(), None)
