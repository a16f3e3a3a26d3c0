"""Whether a directory can take a number of bytes, and when to try again if it cannot."""

import contextlib
import ctypes
import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import jax

from flaxseg.train.processes import first_message

RESERVE = ".reserve"
"""The name of the hidden file that exists while room is reserved in a directory, without being written."""

_FIRST_PAUSE, _LONGEST_PAUSE, _SLICE = 1.0, 60.0, 0.2
"""Seconds between two tries, and between looks at whether the run is to stop."""

_FIRST_PART, _RESERVE_SECONDS = 2**24, 0.01
"""Room is reserved in parts of growing size, and not for longer, because some file systems take time for it."""

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EFBIG)
"""How `fallocate` fails without meaning that there is no room. Several files may fit where one would be too large."""

_RETRY, _STOP, _OVER = "retry", "stop", "over"


def storage_problem(directory: Path, size: int, *, reserve: bool = True) -> str:
    """Returns why a number of bytes cannot be written to a directory now, with the free space; "" if they can.

    The directory is created if it was removed, but not its parents: where a disk is no longer mounted, they would be
    created on another one.

    Args:
      directory: the directory.
      size: the number of bytes.
      reserve: reserve room for a moment, where the file system can do so without writing it. This takes some
        milliseconds, and also notices a quota, which the free space does not show.
    """
    try:
        if not directory.is_dir():
            if os.path.lexists(directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
            directory.mkdir()
        _check_room(directory, size, reserve=reserve)
    except OSError as error:
        return with_free_space(reason(error), directory, size)
    return ""


def reason(error: BaseException) -> str:
    """Returns the reason for an error of the operating system or of Orbax, on one line."""
    text = str(error)
    code = re.search(r"os_error_code='(\d+)'", text)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code:
        return os.strerror(int(code[1]))
    return text.splitlines()[0][:300] if text.strip() else type(error).__name__


def with_free_space(problem: str, directory: Path, size: int) -> str:
    """Returns a problem, followed by the free space of a directory's disk and the number of bytes needed."""
    free = ""
    with contextlib.suppress(OSError):
        found = os.statvfs(next(path for path in (directory, *directory.absolute().parents) if path.exists()))
        free = f"{_megabytes(found.f_bavail * found.f_frsize)} free, "
    return f"{problem}; {free}{_megabytes(size)} needed"


class Retries:
    """The pauses between tries: 1 s, 2 s, 4 s, ..., at most a minute, and a last try when the time is over.

    With several processes, all of them have to call `wait` together; the clock of the first one decides.

    Args:
      minutes: the time after which there is no further try.
      should_stop: returns whether the run is to stop, in which case there is one more try at once.
    """

    def __init__(self, minutes: float, should_stop: Callable[[], bool]) -> None:
        self._start = time.monotonic()
        self._end = self._start + 60 * minutes
        self._should_stop = should_stop
        self._pause = _FIRST_PAUSE
        self._last = ""

    @property
    def seconds(self) -> float:
        """The time since the first try."""
        return time.monotonic() - self._start

    @property
    def is_stopped(self) -> bool:
        """Whether there is no further try because the run is to stop."""
        return self._last == _STOP

    def wait(self) -> bool:
        """Returns True, after a pause, when it is time for the next try; False if the last one has been."""
        if self._last:
            return False
        until = min(time.monotonic() + self._pause, self._end)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # In short parts, so that the handlers of signals run.
        while not (decision := first_message(self._decision(until))):
            time.sleep(_SLICE)
        if decision != _RETRY:
            self._last = decision
        return True

    def _decision(self, until: float) -> str:
        if self._should_stop():
            return _STOP
        if jax.process_index() != 0:
            return ""
        now = time.monotonic()
        return _OVER if now >= self._end else _RETRY if now >= until else ""


def _check_room(directory: Path, size: int, *, reserve: bool) -> None:
    """Raises OSError unless there is room for a number of bytes."""
    path = directory / RESERVE
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        reserved, part, end = 0, _FIRST_PART, time.monotonic() + (_RESERVE_SECONDS if reserve else 0)
        while (
            reserved < size and time.monotonic() < end and _allocate(descriptor, reserved, min(part, size - reserved))
        ):
            reserved, part = min(reserved + part, size), 2 * part
        found = os.fstatvfs(descriptor)
        # Some network file systems do not know their size.
        if found.f_blocks and found.f_bavail * found.f_frsize < size - reserved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _allocate(descriptor: int, start: int, size: int) -> bool:
    """Reserves room for a part of an open file; returns False where the file system cannot do so.

    The system's function is called directly, because `os.posix_fallocate` writes every block where it cannot.

    Raises:
      OSError: there is no room, or the file cannot be written.
    """
    library = ctypes.CDLL(None, use_errno=True)
    # The one with 64-bit sizes on every system; musl has only the other, whose sizes are 64-bit, too.
    function = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if function is None:
        return False
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while function(descriptor, 0, start, size):
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def _megabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
