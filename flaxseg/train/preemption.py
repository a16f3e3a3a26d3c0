"""Stopping a run between two steps on a signal: Ctrl-C, or the SIGTERM that a scheduler sends before preemption."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Self

import jax

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """In its `with` block, records the first signal in `received`; a second one ends the process at once.

    Signals are unaffected in other threads, because only the main thread can handle them, and with several processes,
    which would have to agree on the step to stop at.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            self._before = {number: signal.signal(number, self._record) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received:
            # Skips the interpreter's shutdown, which crashes while the device is still working.
            os._exit(128 + number)
        self.received = number
        message = "\nstopping after this step and saving a checkpoint; a second signal stops at once"
        print(message, file=sys.stderr, flush=True)
