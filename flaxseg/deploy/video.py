"""Reading and writing the frames of video files, one at a time."""

import errno
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flaxseg.deploy.files import WriteError
from flaxseg.errors import DataError

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""The extensions of video files."""

_CODEC = "mp4v"
"""MPEG-4 part 2, which the packages of OpenCV contain an encoder of on every platform."""

_DEFAULT_RATE = 25.0
"""Frames per second of a video whose header does not say."""

_MISSING = 0.05
"""The fraction of the frames declared in the header that may be missing, because some formats only estimate them."""


class VideoReader:
    """The frames of a video file.

    Attributes:
      path: the file.
      rate: frames per second.
      declared: the number of frames in the header; 0 if it does not say.
      count: the number of frames that were read so far.

    Raises:
      DataError: the file is not a video, or in a format that cannot be read.
    """

    def __init__(self, path: str) -> None:
        import cv2

        # Otherwise, FFmpeg prints its own messages about damaged files.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self.path, self.count = path, 0
        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened():
            raise DataError(
                f"{path}: cannot be read as a video; it is damaged, or in a format that OpenCV does not read"
            )
        rate, declared = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and rate > 0 else _DEFAULT_RATE
        self.declared = int(declared) if math.isfinite(declared) and declared > 0 else 0

    @property
    def is_truncated(self) -> bool:
        """Whether far fewer frames were read than the header declares."""
        return self.count < (1 - _MISSING) * self.declared - 1

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields each frame, uint8[H, W, 3], in red, green and blue.

        Raises:
          DataError: the video has no frames, or frames of several sizes.
        """
        shape = None
        while True:
            found, frame = self._capture.read()
            if not found:
                break
            if shape not in (None, frame.shape):
                raise DataError(
                    f"{self.path}: has frames of several sizes, {shape} and {frame.shape}; convert it to one"
                )
            shape = frame.shape
            self.count += 1
            yield np.ascontiguousarray(frame[..., ::-1])
        if not self.count:
            raise DataError(f"{self.path}: has no frames that can be read; it is empty or damaged")

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()


class VideoWriter:
    """An MP4 file of frames, whose sides the encoder rounds down to even numbers.

    Args:
      path: the file to create.
      name: its name in messages.
      size: height and width of the frames.
      rate: frames per second.

    Raises:
      WriteError: the file cannot be created.
    """

    def __init__(self, path: Path, *, name: Path, size: tuple[int, int], rate: float) -> None:
        import cv2

        self._path, self._name, self._count = path, name, 0
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_CODEC), rate, (size[1], size[0]))
        if not self._writer.isOpened():
            raise WriteError(
                f"{name}: cannot be written as a video of {size[1]}x{size[0]} with the codec {_CODEC} of this OpenCV; "
                "check that the folder can be written to, and that opencv-python-headless is installed from PyPI"
            )

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame, uint8[H, W, 3].

        Raises:
          OSError: there is no space left, which the encoder would not report.
        """
        if shutil.disk_usage(self._path.parent).free < frame.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._name))
        self._writer.write(np.ascontiguousarray(frame[..., ::-1]))
        self._count += 1

    def release(self) -> None:
        """Closes the file, complete or not; to be called in any case."""
        self._writer.release()

    def finish(self) -> None:
        """Closes the file, and checks that it is whole: the encoder reports no errors.

        Raises:
          WriteError: frames are missing in it.
        """
        self.release()
        try:
            reader = VideoReader(str(self._path))
        except DataError:
            written = 0
        else:
            written = reader.declared
            reader.close()
        if written < self._count:
            raise WriteError(
                f"{self._name}: only {written:,} of {self._count:,} frames could be written, probably because there is "
                "no space left; free some, and repeat the command"
            )
