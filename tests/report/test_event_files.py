"""Event files of TensorBoard after a crash: what a resumed run writes again is removed from the earlier files."""

import os

import pytest
from logged_events import events

from flaxseg.report.event_files import drop_repeated_events, event_files
from flaxseg.report.hparams import HyperParameters, hparams_summaries
from flaxseg.report.metric_writers import open_writer

EVALUATED = ("eval/miou", "eval/iou/a", "train/batch", "parameters/head/kernel", "gradients/head/kernel")

pytestmark = pytest.mark.parametrize("writer", ["clu", "tensorboard"])


def write(directory, writer, steps):
    writer = open_writer(directory, writer=writer)
    made = hparams_summaries(HyperParameters({"a": 1}))
    writer.write_summaries(0, *({name: summary[part] for name, summary in made.items()} for part in (0, 1)))
    writer.write_texts(0, {"table": "text"})
    for step in steps:
        writer.write_scalars(step, {"loss": float(step)})
    writer.close()


def steps(directory):
    return {tag: [step for step, _ in found] for tag, found in events(directory).items()}


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, {}), (2, {"table": [0], "loss": [1, 2]}), (9, {"table": [0], "loss": [1, 2, 3]})],
)
def test_later_summaries_are_removed(tmp_path, writer, step, expected):
    write(tmp_path, writer, [1, 2, 3])
    drop_repeated_events(event_files(tmp_path), step)
    assert steps(tmp_path) == expected
    assert len(os.listdir(tmp_path)) == 1


def test_an_evaluation_that_is_repeated_is_removed(tmp_path, writer):
    opened = open_writer(tmp_path, writer=writer)
    for step in (1, 2):
        opened.write_scalars(step, {"train/loss": 1.0})
        opened.write_scalars(step, dict.fromkeys(EVALUATED, 0.5))
    opened.close()
    drop_repeated_events(event_files(tmp_path), 2)
    assert steps(tmp_path) == {"train/loss": [1, 2]} | {name: [1, 2] for name in EVALUATED}
    drop_repeated_events(event_files(tmp_path), 2, repeats_evaluation=True)
    assert steps(tmp_path) == {"train/loss": [1, 2]} | {name: [1] for name in EVALUATED}


def test_the_configuration_is_removed_because_each_part_of_a_run_writes_it(tmp_path, writer):
    opened = open_writer(tmp_path, writer=writer)
    opened.write_texts(0, {"config": "text", "parameters": "text"})
    opened.close()
    drop_repeated_events(event_files(tmp_path), 2, writes_config=False)
    assert steps(tmp_path) == {"config": [0], "parameters": [0]}
    drop_repeated_events(event_files(tmp_path), 2)
    assert steps(tmp_path) == {"parameters": [0]}


def test_an_incomplete_event_is_removed(tmp_path, writer):
    write(tmp_path, writer, [1, 2])
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


@pytest.mark.parametrize("offset", [0, 8, 11, 12, 40, -1])
def test_a_damaged_event_ends_a_file(tmp_path, writer, offset):
    write(tmp_path, writer, [1, 2])
    (file,) = event_files(tmp_path)
    drop_repeated_events([file], 1)
    begin = file.stat().st_size
    write(tmp_path / "more", writer, [])
    file.write_bytes(content := file.read_bytes() + event_files(tmp_path / "more")[0].read_bytes())
    place = (begin if offset >= 0 else len(content)) + offset
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    drop_repeated_events([file], 9)
    kept = file.read_bytes()
    assert content.startswith(kept)
    assert len(kept) == begin if offset >= 0 else begin < len(kept) < len(content)
    assert steps(tmp_path)["loss"] == [1]
