"""Calls to a service that may be slow or away, made one after another in a thread of their own."""

import threading
from collections import deque
from collections.abc import Callable

from flaxseg.errors import reason
from flaxseg.report.console import print_line


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
        self._thread = threading.Thread(target=self._run, name=f"flaxseg-{service}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        """Adds a call, and tries those that have failed again."""
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
            self._send()

    def _send(self) -> None:
        while self._pending:
            try:
                self._pending[0]()
            # Each service has its own types of errors.
            except Exception as error:
                self._warn(error)
                return
            self._pending.popleft()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            print_line(
                f"{self._service}: the log cannot be sent ({reason(error)}); training continues, and it is sent as "
                "soon as this is possible"
            )
