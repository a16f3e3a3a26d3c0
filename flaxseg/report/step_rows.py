"""Text files with rows for each step that a resumed run continues: no step occurs twice, and none is missing."""

import contextlib
import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from flaxseg.errors import CheckpointError
from flaxseg.report.console import print_line


class StepRows:
    """Appends rows to a text file; a row that cannot be written is kept, and written with the next ones.

    Args:
      path: the file; created with the first row.
      step_of: returns the step of a row; it raises ValueError for text that is not a complete row.
      header: the first line of the file, with its line break; "": none.
    """

    def __init__(self, path: Path, step_of: Callable[[str], int], *, header: str = "") -> None:
        self._path = path
        self._step_of = step_of
        self._header = header
        self._pending: list[str] = []
        self._has_warned = False

    def append(self, rows: Sequence[str]) -> None:
        """Appends rows, each of which ends with a line break, after those that could not be written before."""
        self._pending += rows
        self.flush()

    def flush(self) -> None:
        """Writes pending rows; a failure is only reported, once, because no log is worth a run."""
        if not self._pending:
            return
        try:
            self._write("".join(self._pending))
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                report_unwritable(self._path, error)
        else:
            self._pending.clear()

    def cut_after(self, step: int, *, is_repeated: Callable[[str], bool] = lambda row: False) -> None:
        """Removes the rows of later steps, which a run that is resumed at this step repeats, and incomplete rows.

        Args:
          step: the step.
          is_repeated: returns whether a row of this step is repeated, too.

        Raises:
          CheckpointError: the file cannot be read or written.
        """
        try:
            if not self._path.exists():
                return
            content = self._path.read_bytes()
            kept = b"".join(line for line in io.BytesIO(content) if self._is_kept(line, step, is_repeated))
            if content.startswith(kept):
                # The usual case; nothing can be lost, even if the disk is full.
                if len(kept) < len(content):
                    os.truncate(self._path, len(kept))
                return
            new = self._path.with_name(f"{self._path.name}.new")
            new.write_bytes(kept)
            new.replace(self._path)
        except OSError as error:
            raise inaccessible(self._path, error) from error

    def _is_kept(self, line: bytes, step: int, is_repeated: Callable[[str], bool]) -> bool:
        text = line.decode("utf-8", errors="replace")
        if text == self._header:
            return True
        try:
            found = self._step_of(text)
            return text.endswith("\n") and (found < step or (found == step and not is_repeated(text)))
        except ValueError:
            return False

    def _write(self, text: str) -> None:
        append_whole(self._path, text.encode(), header=self._header.encode())


def append_whole(path: Path, data: bytes, *, header: bytes = b"") -> None:
    """Appends data to a file, all of it or nothing, after a header if the file is empty or does not exist.

    Raises:
      OSError: it cannot be written.
    """
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        data = data if size else header + data
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise


def report_unwritable(path: Path, error: OSError) -> None:
    """Prints that rows of a file cannot be written now."""
    message = f"{path}: cannot be written ({error.strerror}); training continues, and its rows are"
    with contextlib.suppress(OSError):  # Standard error may be a file on the same full disk.
        print_line(f"{message} written as soon as this is possible")


def inaccessible(path: Path, error: OSError) -> CheckpointError:
    """Returns the error about a file of an earlier part of a run that cannot be read or written."""
    return CheckpointError(
        f"{path}: cannot be read and written ({error.strerror}); make it accessible, or move it away"
    )
