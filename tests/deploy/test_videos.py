"""Videos are predicted frame by frame, as single images are."""

import csv
import os
import shutil
from collections import namedtuple

import cv2
import numpy as np
import pytest
from PIL import Image
from saved_run import save_run

import flaxseg
from flaxseg import predict
from flaxseg.deploy import predict_videos
from flaxseg.deploy.files import WriteError
from flaxseg.deploy.predict_files import write_behind
from flaxseg.deploy.video import VideoReader, VideoWriter
from flaxseg.errors import DataError

COUNT, SIZE, RATE = 7, (32, 48), 12.5


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    save_run(directory, scores={2: 0.5})
    return directory


def write_video(path, *, count=COUNT, codec="MJPG"):
    """Writes frames of one color each, above noise, and returns them as they are read again."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), RATE, SIZE[::-1])
    for number in range(count):
        frame = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        frame[:16] = 30 * number % 256
        writer.write(frame)
    writer.release()
    return list(VideoReader(str(path)))


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "a.avi")


def arguments(run, tmp_path, *more):
    return [f"--model={run}", f"--input={tmp_path / 'a.avi'}", f"--output={tmp_path / 'out'}", *more]


def test_frames_are_predicted_as_images_are(run, video, tmp_path, capsys):
    assert predict.main(arguments(run, tmp_path, "--frame_masks", "--batch_size=3")) == 0
    model, output = flaxseg.load(run), tmp_path / "out"
    drawn = VideoReader(str(output / "videos" / "a.mp4"))
    assert (drawn.rate, drawn.declared) == (RATE, COUNT)
    assert sorted(os.listdir(output / "masks" / "a")) == [f"{number:06}.png" for number in range(COUNT)]
    rows = list(csv.reader((output / "areas" / "a.csv").read_text().splitlines()))
    assert rows[0] == ["frame", "seconds", *model.classes]
    for number, (frame, shown, row) in enumerate(zip(video, drawn, rows[1:], strict=True)):
        label = model(frame)
        mask = Image.open(output / "masks" / "a" / f"{number:06}.png")
        np.testing.assert_array_equal(np.asarray(mask), label)
        assert mask.getpalette()[:15] == [value for color in model.palette for value in color]
        assert row == [str(number), f"{number / RATE:.3f}", *map(str, np.bincount(label.ravel(), minlength=5))]
        assert shown.shape == frame.shape
        # Compression loses details, but a frame remains closer to its own overlay than to any other.
        distances = [np.abs(shown - model.overlay(other).astype(np.float32)).mean() for other in video]
        assert np.argmin(distances) == number
    assert "1 video predicted; results in" in capsys.readouterr().out
    assert not (output / "summary.csv").exists()


def test_a_video_is_predicted_once(run, video, tmp_path, capsys):
    assert predict.main(arguments(run, tmp_path)) == 0
    shares = capsys.readouterr().out.splitlines()[1:]
    assert shares[0] == "of the pixels of 1 video:"
    before = (tmp_path / "out" / "videos" / "a.mp4").stat().st_mtime_ns
    assert predict.main(arguments(run, tmp_path)) == 0
    again = capsys.readouterr().out
    assert "0 videos predicted, 1 was there before" in again and again.splitlines()[1:] == shares
    assert (tmp_path / "out" / "videos" / "a.mp4").stat().st_mtime_ns == before
    assert predict.main(arguments(run, tmp_path, "--frame_masks")) == 0
    assert "1 video predicted" in capsys.readouterr().out
    write_video(tmp_path / "a.avi", count=3)
    assert predict.main(arguments(run, tmp_path, "--frame_masks", "--overwrite")) == 0
    assert len(os.listdir(tmp_path / "out" / "masks" / "a")) == 3
    assert len((tmp_path / "out" / "areas" / "a.csv").read_text().splitlines()) == 4


def test_an_interrupted_video_leaves_no_result_and_is_repeated(run, video, tmp_path, monkeypatch, capsys):
    write = VideoWriter.write

    def interrupted(self, frame):
        if self._count == 3:
            raise KeyboardInterrupt
        write(self, frame)

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    assert predict.main(arguments(run, tmp_path, "--frame_masks")) == 130
    assert "repeat the command" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out" / "videos") == []
    monkeypatch.setattr(VideoWriter, "write", write)
    assert predict.main(arguments(run, tmp_path, "--frame_masks")) == 0
    assert len(os.listdir(tmp_path / "out" / "masks" / "a")) == COUNT


def test_videos_that_cannot_be_read_are_reported_at_the_end(run, video, tmp_path, capfd):
    (tmp_path / "damaged.mp4").write_bytes(b"nothing of the kind" * 100)
    (tmp_path / "empty.mp4").touch()
    write_video(tmp_path / "cut.avi", count=40)
    data = (tmp_path / "cut.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    Image.fromarray(video[0]).save(tmp_path / "a.png")
    inputs = [str(tmp_path / name) for name in ("a.avi", "damaged.mp4", "empty.mp4", "cut.avi", "a.png")]
    assert predict.main([f"--model={run}", f"--output={tmp_path / 'out'}", "--input", *inputs]) == 1
    captured = capfd.readouterr()
    assert "1 image predicted" in captured.out and "2 videos predicted" in captured.out
    assert "error: 3 of 4 videos were not predicted:" in captured.err
    for name, message in (
        ("damaged.mp4", "cannot be read as a video"),
        ("empty.mp4", "cannot be read as a video"),
        ("cut.avi", "is truncated; only the first"),
    ):
        assert f"{name}: {message}" in captured.err
    assert sorted(os.listdir(tmp_path / "out" / "videos")) == ["a.avi.mp4", "cut.mp4"]
    assert os.listdir(tmp_path / "out" / "masks") == ["a.png.png"]


def test_a_video_without_frames_is_an_error(tmp_path, monkeypatch):
    write_video(tmp_path / "a.avi")
    reader = VideoReader(str(tmp_path / "a.avi"))
    assert len(list(reader)) == COUNT
    reader.count = 0
    with pytest.raises(DataError, match="a.avi: has no frames that can be read"):
        list(reader)


def test_a_full_disk_is_reported_at_once(run, video, tmp_path, monkeypatch, capsys):
    free = iter([10**9, 10**9, 100])
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(next(free)))
    assert predict.main(arguments(run, tmp_path)) == 1
    assert "videos/a.mp4: there is no space left to write it; free some" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out" / "videos") == []


def test_a_video_that_is_not_written_whole_is_an_error(tmp_path):
    """The encoder reports nothing when the disk is full."""
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, name=path, size=SIZE, rate=RATE)
    writer.write(np.zeros((*SIZE, 3), np.uint8))
    writer.finish()
    writer = VideoWriter(path, name=path, size=SIZE, rate=RATE)
    for _ in range(3):
        writer.write(np.zeros((*SIZE, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        WriteError, match="a.mp4: only 0 of 3 frames could be written, probably because there is no space"
    ):
        writer.finish()
    with pytest.raises(WriteError, match="b.mp4: cannot be written as a video of 48x32"):
        VideoWriter(tmp_path / "none" / "b.mp4", name=tmp_path / "b.mp4", size=SIZE, rate=RATE)


def test_few_frames_are_in_memory(run, tmp_path, monkeypatch):
    """Frames are read no further ahead than threads and batches need."""
    write_video(tmp_path / "a.avi", count=60)
    ahead, read, written = [], [0], [0]
    frames, write = VideoReader.__iter__, VideoWriter.write

    def counted(self):
        for frame in frames(self):
            read[0] += 1
            ahead.append(read[0] - written[0])
            yield frame

    def count(self, frame):
        written[0] += 1
        write(self, frame)

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    monkeypatch.setattr(VideoWriter, "write", count)
    monkeypatch.setattr(predict_videos, "write_behind", lambda each, num_threads: write_behind(each, num_threads=2))
    assert predict.main(arguments(run, tmp_path, "--batch_size=1")) == 0
    assert written[0] == 60 and max(ahead) <= 10
