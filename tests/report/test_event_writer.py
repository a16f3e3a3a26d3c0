"""Event files on a full disk: every summary is written once, and readers find all of them."""

import os
import resource
import signal
import threading

import numpy as np
import pytest
from logged_events import events

from flaxseg.report.drawing import encode_png
from flaxseg.report.event_files import drop_repeated_events, event_files
from flaxseg.report.event_writer import EventWriter
from flaxseg.report.image_summaries import image_summaries


@pytest.fixture
def limit_file_size():
    """Returns a function that limits the size of files, as a full disk does; None: no limit."""
    ignored, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, limits if size is None else (size, limits[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, ignored)


def steps(directory):
    # Files that were begun within one second are read in any order.
    return {tag: sorted(step for step, _ in found) for tag, found in events(directory).items()}


@pytest.mark.parametrize("writer", ["clu", "tensorboard"])
@pytest.mark.parametrize("flushed", [True, False])
def test_what_cannot_be_written_is_written_later(tmp_path, limit_file_size, flushed, writer):
    writer = EventWriter(tmp_path, writer=writer)
    writer.write_scalars(1, {"loss": 1.0})
    if flushed:
        writer.flush()
    writer._thread.submit(int).result()  # What was submitted before has been done.
    (file,) = event_files(tmp_path)
    limit_file_size(file.stat().st_size + 20)
    for step in (2, 3, 4):
        writer.write_scalars(step, {"loss": float(step)})
        writer.flush()
    limit_file_size(10)  # Now not even a new file can be begun.
    png = encode_png(np.zeros((2, 2, 3), np.uint8))
    writer.write_summaries(4, lambda: image_summaries("image", png, height=2, width=2))
    limit_file_size(None)
    writer.write_scalars(5, {"loss": 5.0})
    writer.flush()
    assert steps(tmp_path) == {"loss": [1, 2, 3, 4, 5], "image": [4]}
    writer.write_scalars(6, {"loss": 6.0})
    writer.close()
    assert steps(tmp_path)["loss"] == [1, 2, 3, 4, 5, 6]
    # Every file ends with a whole event, and those of failed attempts are gone.
    assert sorted(tmp_path.iterdir()) == event_files(tmp_path)
    sizes = [file.stat().st_size for file in event_files(tmp_path)]
    drop_repeated_events(event_files(tmp_path), 6)
    assert [file.stat().st_size for file in event_files(tmp_path)] == sizes


@pytest.mark.parametrize("writer", ["clu", "tensorboard"])
def test_a_failure_is_reported_once(tmp_path, capsys, writer):
    directory = tmp_path / "file"
    directory.write_text("")
    writer = EventWriter(directory, writer=writer)
    writer.write_scalars(1, {"loss": 1.0})
    writer.flush()
    error = capsys.readouterr().err
    assert error.startswith(f"{directory}: TensorBoard's events cannot be written (") and error.count("\n") == 1
    directory.unlink()
    writer.close()
    assert steps(directory) == {"loss": [1]}


def test_the_file_is_opened_in_the_thread(tmp_path):
    may_begin = threading.Event()
    writer = EventWriter(tmp_path, writer="tensorboard", wait=may_begin.wait)
    writer.write_scalars(1, {"loss": 1.0})
    assert event_files(tmp_path) == []
    may_begin.set()
    writer.close()
    assert steps(tmp_path) == {"loss": [1]}


def test_no_writer_writes_nothing(tmp_path):
    begun = []
    writer = EventWriter(tmp_path, writer="none", wait=lambda: begun.append(1))
    writer.write_scalars(1, {"loss": 1.0})
    writer.flush()
    writer.close()
    assert (begun, os.listdir(tmp_path)) == ([], [])
