"""Whole files as bytes, and the check that they do not change during a run."""

import os

import numpy as np

from flaxseg.data.decode.limits import REMEDY, check_regular
from flaxseg.errors import ChangedFile, DataError


def read_file(path: str) -> bytes:
    """Returns the bytes of a file.

    Raises:
      DataError: the file cannot be read, or is a pipe, a device or a socket.
    """
    return _read(path)[0]


class UnchangedFiles:
    """Reads numbered files, each of which must not change after it was first read.

    Several threads may read at once. A file has changed if its size or its modification time has.

    Args:
      count: the number of files; each takes eight bytes of memory.
    """

    def __init__(self, count: int) -> None:
        self._states = np.zeros(count, np.int64)

    def read(self, number: int, path: str) -> bytes:
        """Returns the bytes of file `number`, which is at `path`.

        Raises:
          DataError: the file cannot be read.
          ChangedFile: the file has changed since it was first read.
        """
        data, state = _read(path)
        if not self._states[number]:
            self._states[number] = state
        elif self._states[number] != state:
            raise ChangedFile(
                f"{path}: has changed since it was first read (it has {len(data):,} bytes now), but the data of a run "
                "must stay the same. Restore the file and resume the run, or start a new run in another working "
                "directory"
            )
        return data


def _read(path: str) -> tuple[bytes, int]:
    """Returns the bytes, and a nonzero hash of the size and the modification time."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            # Queried before reading: if the file changes in between, the next read finds another state.
            state = os.fstat(file.fileno())
            return file.read(), hash((state.st_size, state.st_mtime_ns)) or 1
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
