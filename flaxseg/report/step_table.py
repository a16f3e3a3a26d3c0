"""A CSV file with rows for each step whose columns may grow, and which a resumed run continues exactly."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from flaxseg.errors import CheckpointError
from flaxseg.report.step_rows import append_whole, inaccessible, report_unwritable

_STEP = "step"

Number = int | float


class StepTable:
    """Appends rows to a CSV file; a row that cannot be written is kept, and written with the next ones.

    The first column is the step. A row with a new column adds it on the right, and all earlier rows are empty there;
    the file is then replaced as a whole, so that a reader always finds rows of the same length. Floats have all their
    digits.

    Args:
      path: the file; created with the first row.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: list[str] = []
        self._pending: list[Mapping[str, Number]] = []
        self._has_warned = False

    def append(self, row: Mapping[str, Number]) -> None:
        """Appends a row, numbers by the names of their columns, one of which is "step"."""
        self._pending.append(row)
        self.flush()

    def flush(self) -> None:
        """Writes pending rows; a failure is only reported, once, because no log is worth a run."""
        if not self._pending:
            return
        # In the order in which they occur first.
        columns = list(dict.fromkeys([_STEP, *self._columns, *(name for row in self._pending for name in row)]))
        rows = [[str(row.get(name, "")) for name in columns] for row in self._pending]
        try:
            if columns == self._columns:
                append_whole(self._path, _text(rows), header=_text([columns]))
            else:
                self._replace(columns, [*self._padded(len(columns)), *rows])
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                report_unwritable(self._path, error)
        else:
            self._columns = columns
            self._pending.clear()

    def cut_after(self, step: int, *, is_repeated: Callable[[Mapping[str, str]], bool] = lambda row: False) -> None:
        """Removes the rows of later steps, which a run that is resumed at this step repeats, and an incomplete one.

        Args:
          step: the step.
          is_repeated: returns whether a row of this step, without its empty columns, is repeated, too.

        Raises:
          CheckpointError: the file cannot be read or written, or is not such a table.
        """
        self._pending = [row for row in self._pending if row[_STEP] <= step]
        try:
            if not self._path.exists():
                self._columns = []
                return
            content = self._path.read_bytes()
            self._columns, rows = self._parse(content)
            kept = [row for row in rows if self._is_kept(row, step, is_repeated)]
            text = _text([self._columns, *kept]) if kept else b""
            if content.startswith(text):
                # The usual case; nothing can be lost, even if the disk is full.
                if len(text) < len(content):
                    os.truncate(self._path, len(text))
            else:
                self._replace(self._columns, kept)
            # Columns of an earlier beginning of the run do not stay.
            self._columns = self._columns if kept else []
        except OSError as error:
            raise inaccessible(self._path, error) from error

    def _parse(self, content: bytes) -> tuple[list[str], list[list[str]]]:
        """Returns the columns and the rows of a file, but not its last row if it is incomplete."""
        text = content.decode("utf-8", errors="replace")
        try:
            rows = list(csv.reader(io.StringIO(text, newline="")))
        except csv.Error:
            rows = [[""]]
        if rows and rows[0][:1] != [_STEP] and not _STEP.startswith(text):
            raise CheckpointError(f"{self._path}: is not a table of steps of flaxseg; move it away")
        if not text.endswith("\n"):
            rows = rows[:-1]
        return (rows[0], rows[1:]) if rows else ([], [])

    def _is_kept(self, row: Sequence[str], step: int, is_repeated: Callable[[Mapping[str, str]], bool]) -> bool:
        if len(row) != len(self._columns) or not row[0].isdecimal():
            return False
        there = {name: value for name, value in zip(self._columns, row, strict=True) if value}
        return int(row[0]) < step or (int(row[0]) == step and not is_repeated(there))

    def _padded(self, width: int) -> list[list[str]]:
        """Returns the rows of the file with empty columns on the right."""
        if not (self._columns and self._path.exists()):
            return []
        _, rows = self._parse(self._path.read_bytes())
        return [row + [""] * (width - len(row)) for row in rows]

    def _replace(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_bytes(_text([columns, *rows]))
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)


def _text(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
