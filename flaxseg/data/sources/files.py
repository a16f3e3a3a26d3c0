"""Whole files, as bytes."""

import os

import numpy as np

from flaxseg.data.decode.limits import RESTORE
from flaxseg.errors import ChangedFile, DataError


def read_file(path: str) -> bytes:
    """The bytes of a file.

    Raises:
      DataError: it cannot be read.
    """
    return _read(path)[0]


class UnchangedFiles:
    """Files known by number, each of which has to stay as it was when it was first read through this.

    Several threads may read at once. A file counts as another when its size or its time of modification is.

    Args:
      count: how many files there are; each takes eight bytes of memory.
    """

    def __init__(self, count: int) -> None:
        self._states = np.zeros(count, np.int64)

    def read(self, number: int, path: str) -> bytes:
        """The bytes of the file `number`, which lies at `path`.

        Raises:
          DataError: it cannot be read.
          ChangedFile: it is another than before.
        """
        data, state = _read(path)
        if not self._states[number]:
            self._states[number] = state
        elif self._states[number] != state:
            raise ChangedFile(
                f"{path}: has changed since it was first read (it has {len(data):,} bytes now). What a run trains on "
                "has to stay the same: put the file back and give the same command again, or start anew with another "
                "working directory"
            )
        return data


def _read(path: str) -> tuple[bytes, int]:
    """Bytes, and a number other than 0 for the size and time of modification."""
    try:
        with open(path, "rb") as file:
            # Asked for before reading: of a file that changes meanwhile the next reading then finds another state.
            state = os.fstat(file.fileno())
            return file.read(), hash((state.st_size, state.st_mtime_ns)) or 1
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {RESTORE}") from error
