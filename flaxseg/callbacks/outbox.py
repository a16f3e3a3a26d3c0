"""Calls to a service that may be slow or away, made one after another in a thread of their own."""

import threading
import time
from collections import deque
from collections.abc import Callable

from flaxseg.errors import reason
from flaxseg.report.console import print_line

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""How long nothing is tried again after a failure; twice as long after each further one."""


class Outbox:
    """Makes calls in their order in a thread; one that fails is made again later, before the next ones.

    The first failure is printed; none is raised. The thread ends with the program, whatever it is waiting for.

    Args:
      service: the name of the service, for messages.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._pending: deque[Callable[[], None]] = deque()
        self._condition = threading.Condition()
        self._is_due = self._is_closing = self._has_warned = False
        self._pause = self._paused_until = 0.0
        self._thread = threading.Thread(target=self._run, name=f"flaxseg-{service}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        """Adds a call, and tries one that has failed again, unless that was just now."""
        self._pending.append(call)
        self._wake()

    def close(self, seconds: float) -> None:
        """Waits for all calls, but not longer than some seconds; prints how many were not made."""
        self._is_closing = True
        self._wake()
        self._thread.join(seconds)
        if count := len(self._pending):
            print_line(f"{self._service}: {count} {'entry' if count == 1 else 'entries'} of the log could not be sent")

    def _wake(self) -> None:
        with self._condition:
            self._is_due = True
            self._condition.notify()

    def _run(self) -> None:
        is_closing = False
        while not is_closing:
            with self._condition:
                self._condition.wait_for(lambda: self._is_due)
                self._is_due, is_closing = False, self._is_closing
            if is_closing or time.monotonic() >= self._paused_until:
                self._send()

    def _send(self) -> None:
        while self._pending:
            try:
                self._pending[0]()
            # Each service has its own types of errors.
            except Exception as error:
                self._warn(error)
                self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                self._paused_until = time.monotonic() + self._pause
                return
            self._pending.popleft()
            self._pause = 0.0

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            print_line(
                f"{self._service}: the log cannot be sent ({reason(error)}); training continues, and it is sent as "
                "soon as this is possible"
            )
