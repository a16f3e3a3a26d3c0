"""Hides what Orbax and TensorStore print about a save that fails, which the run reports itself on one line."""

import gc
import logging
import os
import sys
import warnings
from types import TracebackType
from typing import Self

from absl import logging as absl_logging

_LOGGERS = ("absl", "asyncio")
_ORBAX = f"{os.sep}orbax{os.sep}"
_LATE_WRITE = "Event loop is closed"


class HiddenOrbaxErrors(logging.Filter):
    """In its `with` block, hides the stack traces of failed saves, unless log messages are wanted.

    Orbax logs an error each time that it passes it on, and asyncio those of further arrays. Where writing an array ends
    after writing another one has failed, TensorStore's own threads raise an error that nobody can catch.
    """

    def __enter__(self) -> Self:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._report
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)
        if sys.unraisablehook == self._report:
            sys.unraisablehook = self._hook

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a record is shown."""
        if record.name == "asyncio":
            is_orbax = "orbax" in record.getMessage()
        else:
            is_orbax = _ORBAX in record.pathname and bool(record.exc_info)
        return not is_orbax or _logs_are_wanted()

    def _report(self, raised: "sys.UnraisableHookArgs") -> None:
        if str(raised.exc_value) != _LATE_WRITE or _logs_are_wanted():
            self._hook(raised)


def collect_failed_save() -> None:
    """Lets Python report now, while that is hidden, what a failed save has not waited for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        gc.collect()


def _logs_are_wanted() -> bool:
    return absl_logging.get_verbosity() >= absl_logging.INFO
