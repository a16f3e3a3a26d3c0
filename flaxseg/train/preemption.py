"""Stopping a run on a signal: Ctrl-C, or what a scheduler sends before it ends a job (SIGTERM, or SLURM's SIGUSR1)."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from flaxseg import interrupts
from flaxseg.train.agreement import StopAgreement

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StopSignals:
    """In its `with` block, the first signal stops the run with a checkpoint; a second one ends the process at once.

    Before the first step of this process, when its state is on the disk or can be made again, a signal ends the process
    at once. The exit status is 128 plus the number of the signal. A thread reads the signals, because a handler in
    Python only runs once a compilation or a step that has been waited for is over.

    Signals that the process ignores, as those started with `nohup` ignore some, stay ignored, and a handler of
    the program's own for SIGUSR1 stays. Signals are unaffected where this is not the main thread, which alone can
    handle them.

    Args:
      agreement: where all processes agree to stop.
      saves: whether a checkpoint is saved then.
    """

    def __init__(self, agreement: StopAgreement, *, saves: bool = True) -> None:
        self._agreement = agreement
        self._saves = saves
        self._before: dict[int, signal._HANDLER] = {}
        self._received = 0
        self._cleanups: list[Callable[[], None]] = []
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._sockets = socket.socketpair()
        for end in self._sockets:
            end.setblocking(end is self._sockets[0])
        self._wakeup_before = signal.set_wakeup_fd(self._sockets[1].fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._read, args=(self._sockets[0],), name="flaxseg-signals", daemon=True).start()
        for number in SIGNALS:
            if _may_be_handled(number):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._sockets is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            self._sockets[1].close()  # The thread reads the end of the stream and ends.

    def before_exit(self, cleanup: Callable[[], None]) -> None:
        """Calls a function before a signal ends the process at once."""
        self._cleanups.append(cleanup)

    def leave(self, status: int) -> None:
        """Ends the process at once, without the interpreter's shutdown, which crashes while a device is working."""
        for cleanup in self._cleanups:
            cleanup()
        os._exit(status)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Raises KeyboardInterrupt for Ctrl-C in a program before the first step; `_read` does everything else."""
        del frame
        if number == signal.SIGINT and self._raises_interrupt():
            raise KeyboardInterrupt

    def _raises_interrupt(self) -> bool:
        return not self._agreement.has_begun and not interrupts.is_command()

    def _read(self, stream: socket.socket) -> None:
        """Reads the numbers of signals, which Python's own handler writes at once, until the other end is closed."""
        with stream:
            while numbers := stream.recv(1):
                if numbers[0] in self._before:
                    self._receive(numbers[0])

    def _receive(self, number: int) -> None:
        if self._received:
            self.leave(128 + number)
        self._received = number
        if self._agreement.has_begun:
            saving = " and saving a checkpoint" if self._saves else ", without a checkpoint"
            _say(f"\nstopping after this step{saving}; a second signal stops at once")
        elif number == signal.SIGINT and self._raises_interrupt():
            return
        else:
            _say("\nstopped before the first step; repeat the command to begin or resume")
            if self._agreement.is_alone:
                self.leave(128 + number)
        self._agreement.announce(number)


def _may_be_handled(number: int) -> bool:
    handler = signal.getsignal(number)
    return handler is signal.SIG_DFL if number not in (signal.SIGINT, signal.SIGTERM) else handler != signal.SIG_IGN


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # The terminal may be gone.
        print(message, file=sys.stderr, flush=True)
