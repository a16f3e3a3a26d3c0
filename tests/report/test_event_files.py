"""Event files of TensorBoard after a crash: what a resumed run writes again is removed from the earlier files."""

import os

import pytest
from clu import metric_writers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flaxseg.report.event_files import drop_repeated_events, event_files


def write(directory, steps):
    writer = metric_writers.SummaryWriter(str(directory))
    writer.write_hparams({"a": 1})
    writer.write_texts(0, {"table": "text"})
    for step in steps:
        writer.write_scalars(step, {"loss": float(step)})
    writer.close()


def steps(directory):
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0}).Reload()
    return {tag: [event.step for event in accumulator.Tensors(tag)] for tag in accumulator.Tags()["tensors"]}


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, {}), (2, {"table": [0], "loss": [1, 2]}), (9, {"table": [0], "loss": [1, 2, 3]})],
)
def test_later_summaries_are_removed(tmp_path, step, expected):
    write(tmp_path, [1, 2, 3])
    drop_repeated_events(event_files(tmp_path), step)
    assert steps(tmp_path) == expected
    assert len(os.listdir(tmp_path)) == 1


def test_an_incomplete_event_is_removed(tmp_path):
    write(tmp_path, [1, 2])
    (file,) = event_files(tmp_path)
    drop_repeated_events([file], 2)
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    drop_repeated_events([file], 2)
    assert steps(tmp_path) == {"table": [0], "loss": [1]}
    shorter = file.read_bytes()
    assert whole.startswith(shorter) and len(shorter) < len(whole) - 5
    # Nothing is left to be removed.
    before = file.stat().st_ino
    drop_repeated_events([file], 2)
    assert (file.stat().st_ino, file.read_bytes()) == (before, shorter)
