"""Predicts video files, frame by frame: a video of overlays, the class areas of each frame, and masks."""

import contextlib
import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flaxseg.deploy.files import WriteError, new_file, write_file
from flaxseg.deploy.images import NetworkImage
from flaxseg.deploy.predict_files import Outcome, write_behind
from flaxseg.deploy.prediction_files import PredictionFiles
from flaxseg.deploy.prediction_inputs import InputImage
from flaxseg.deploy.predictor import Predictor
from flaxseg.deploy.video import VideoReader, VideoWriter
from flaxseg.errors import DataError

Drawn = tuple[np.ndarray, np.ndarray]
"""A frame with its classes drawn over it, uint8[H, W, 3], and the number of pixels of each class, int64[K]."""


def predict_videos(
    model: Predictor, videos: Sequence[InputImage], files: PredictionFiles, *, num_threads: int = -1
) -> Outcome:
    """Predicts videos and writes their files; one that cannot be read is reported, not raised.

    Args:
      model: the network.
      videos: from `find_images`.
      files: what is written.
      num_threads: the number of threads that draw frames; 0 uses the calling thread, -1 one thread per core.

    Raises:
      WriteError: a file cannot be written.
    """
    written, kept, failed = 0, 0, list[str]()
    pixels = np.zeros(len(files.class_names), np.int64)
    for video in videos:
        if not files.missing(video):
            pixels += _read_areas(files.frame_areas(video))
            kept += 1
            continue
        try:
            areas, message = _predict(model, video, files, num_threads)
        except WriteError:
            raise
        except DataError as error:
            failed.append(str(error))
            continue
        pixels += areas
        written += 1
        failed += [message] if message else []
    return Outcome(written, kept, tuple(failed), len(videos), pixels)


def _predict(model: Predictor, video: InputImage, files: PredictionFiles, num_threads: int) -> tuple[np.ndarray, str]:
    """Writes the files of a video; returns the pixels of each class, and a message if it is truncated."""
    target, areas = files.video(video), list[np.ndarray]()
    # Where this file is, the masks of all frames are.
    files.frame_areas(video).unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(VideoReader(video.path)))
        new = stack.enter_context(new_file(target))
        bar = stack.enter_context(
            tqdm(total=reader.declared or None, desc=Path(video.path).name, unit="frame", disable=None)
        )
        writer: VideoWriter | None = None
        drawn = stack.enter_context(
            contextlib.closing(write_behind(_drawing(model, reader, video, files), num_threads=num_threads))
        )
        for frame, of_frame in drawn:
            if writer is None:
                writer = VideoWriter(new, name=target, size=frame.shape[:2], rate=reader.rate)
                stack.callback(writer.release)
            writer.write(frame)
            areas.append(of_frame)
            bar.update()
        assert writer is not None, "a video without frames is an error"
        writer.finish()
        files.remove_frames(video, first=len(areas))
        _write_areas(files.frame_areas(video), areas, reader.rate, files.class_names)
    message = (
        f"{video.path}: is truncated; only the first {reader.count:,} of {reader.declared:,} frames were predicted"
    )
    return np.sum(areas, axis=0), message if reader.is_truncated else ""


def _drawing(
    model: Predictor, reader: VideoReader, video: InputImage, files: PredictionFiles
) -> Iterator[Callable[[], Drawn]]:
    """Yields for each frame a function that writes its mask and draws it."""
    waiting: deque[np.ndarray] = deque()

    def given() -> Iterator[NetworkImage]:
        for frame in reader:
            waiting.append(frame)
            yield model.reader(frame)

    for number, prediction in enumerate(model.predict(given())):
        frame, label = waiting.popleft(), prediction.label
        yield lambda frame=frame, label=label, number=number: files.write_frame(video, number, frame, label)  # type: ignore[misc]


def _write_areas(path: Path, areas: Sequence[np.ndarray], rate: float, class_names: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame", "seconds", *class_names])
    writer.writerows([number, f"{number / rate:.3f}", *row.tolist()] for number, row in enumerate(areas))
    write_file(path, text.getvalue().encode())


def _read_areas(path: Path) -> np.ndarray:
    """Returns the number of pixels of each class over all frames, int64[K]."""
    try:
        rows = list(csv.reader(path.read_text().splitlines()))[1:]
        return np.sum([[int(value) for value in row[2:]] for row in rows], axis=0)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it, and repeat the command") from error
