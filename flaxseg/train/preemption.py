"""Stopping a run between two steps when it is asked to: Ctrl-C, or the SIGTERM that a scheduler sends."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Self

import jax

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, the first signal to stop is only noted in `received`; the second ends the process at once.

    Handlers belong to the main thread, so elsewhere signals keep their meaning. So they do with several processes,
    which would have to agree on the step to stop at.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received:
            # Without the interpreter's own end, which crashes while the device is still at work.
            os._exit(128 + number)
        self.received = number
        print("\nstopping after this step and saving; once more to stop at once", file=sys.stderr, flush=True)
