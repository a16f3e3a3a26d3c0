"""A writer of TensorBoard's event files in a thread, for a disk that is full or away for a while."""

import contextlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.report.console import print_line
from flaxseg.report.event_files import event_files
from flaxseg.report.metric_writers import check_writer, open_writer

Summary = tuple[np.ndarray, Any]
"""A value, and the metadata that name the part of TensorBoard that shows it."""


class EventWriter:
    """Writes summaries; what cannot be written is kept, and written to another event file later.

    Everything is written in a thread, which also opens the first file, because importing TensorFlow takes seconds.

    Args:
      directory: receives the event files.
      writer: one of `metric_writers.WRITERS`; CLU's imports TensorFlow, and "none" writes nothing.
      just_logging: write to the log only, not to files.
      wait: called in the thread before anything else, to begin later; None to begin at once.

    Raises:
      ArgumentError: an unknown writer, or CLU's without TensorFlow.
    """

    def __init__(
        self,
        directory: Path,
        *,
        writer: str = "auto",
        just_logging: bool = False,
        wait: Callable[[], None] | None = None,
    ) -> None:
        check_writer(writer)
        self._directory = directory
        self._kind = writer
        self._just_logging = just_logging
        self._thread: ThreadPoolExecutor | _NoThread = (
            _NoThread() if writer == "none" else ThreadPoolExecutor(1, thread_name_prefix="flaxseg-summaries")
        )
        self._unflushed: list[tuple[str, tuple[Any, ...]]] = []
        self._writer: Any = None
        self._file: Path | None = None
        self._whole_bytes = 0
        self._torn: list[tuple[Path, int]] = []
        self._has_warned = False
        if wait is not None:
            self._thread.submit(wait)
        self._thread.submit(self._attempt, self._open)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers by their names."""
        self._thread.submit(self._write, "write_scalars", step, scalars)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Writes texts by their names."""
        self._thread.submit(self._write, "write_texts", step, texts)

    def write_summaries(self, step: int, summaries: Callable[[], Mapping[str, Summary]]) -> None:
        """Writes the summaries that a function returns, which is called in the thread, by their names."""
        self._thread.submit(self._write_made, step, summaries)

    def flush(self) -> None:
        """Waits until everything is in the files, or could not be written."""
        self._thread.submit(self._attempt, self._flush).result()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        self._thread.submit(self._attempt, self._close).result()
        self._thread.shutdown()

    def _write_made(self, step: int, summaries: Callable[[], Mapping[str, Summary]]) -> None:
        made = summaries()
        values, metadata = ({name: summary[part] for name, summary in made.items()} for part in (0, 1))
        self._write("write_summaries", step, values, metadata)

    def _write(self, method: str, *arguments: Any) -> None:
        self._unflushed.append((method, arguments))
        if self._writer is None:
            self._attempt(self._flush)
        else:
            self._attempt(lambda: getattr(self._writer, method)(*arguments))

    def _attempt(self, action: Any) -> None:
        """Calls an action; after a failure, a new file will be begun, because readers stop at an incomplete event."""
        try:
            action()
        # TensorFlow has many types of errors.
        except Exception as error:
            with contextlib.suppress(Exception):
                self._close()
            if self._file:
                self._torn.append((self._file, self._whole_bytes))
            self._writer = self._file = None
            if not self._has_warned:
                self._has_warned = True
                # TensorFlow's messages begin with the name of an operation.
                reason = re.sub(r"^\{\{.*?\}\} ", "", (str(error).splitlines() or [type(error).__name__])[0])
                message = f"{self._directory}: TensorBoard's events cannot be written ({reason}); training continues"
                with contextlib.suppress(OSError):  # Standard error may be a file on the same full disk.
                    print_line(f"{message}, and they are written as soon as this is possible")

    def _open(self) -> None:
        before, self._whole_bytes = set(event_files(self._directory)), 0
        try:
            self._writer = open_writer(self._directory, writer=self._kind, just_logging=self._just_logging)
        finally:
            # An attempt that fails may leave a file, too.
            self._file = next(iter(set(event_files(self._directory)) - before), None)

    def _flush(self) -> None:
        if self._writer is None:
            self._open()
            for method, arguments in self._unflushed:
                getattr(self._writer, method)(*arguments)
        self._writer.flush()
        self._unflushed.clear()
        if self._file:
            self._whole_bytes = self._file.stat().st_size
        self._repair()

    def _repair(self) -> None:
        """Removes from the files of failed writers what has been written again since."""
        while self._torn:
            file, size = self._torn[-1]
            if size:
                # In a new file, because the failed writer may still have the old one open.
                new = file.with_name(".events.new")
                with file.open("rb") as stream:
                    new.write_bytes(stream.read(size))
                new.replace(file)
            else:
                file.unlink(missing_ok=True)
            self._torn.pop()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _NoThread:
    """An executor that calls nothing."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[None]:
        """Returns a future that is done."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def shutdown(self) -> None:
        """Does nothing."""
