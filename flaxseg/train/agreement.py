"""The agreement of all processes of a run on where to stop, without a collective operation in the training loop."""

import contextlib
import os
import threading
import time
from collections.abc import Callable

from flaxseg.train.coordination import Store, StoreError

_ANSWER_SECONDS = 20.0
"""How long a process waits for the others' positions; its threads answer at once unless it has ended."""

_LISTEN_SECONDS = 3600.0

_FAREWELL_SECONDS = 5.0
"""How long the first process, which holds the store, waits for the others when all exit."""

_NOTHING = 0
"""Published instead of the number of a signal at the end of a run."""

_LAST_SECONDS = 1.0
"""How long the others may take from their last word to their exit."""

_LEAVING = -1
"""Published instead of a position by a process that has not taken a step and exits at once."""


class StopAgreement:
    """Agrees with the other processes on the position at which all of them stop.

    Positions are counted by the calls of `should_stop`, which all processes make in the same order, between two steps
    or batches. When one process announces a signal, a thread of each publishes how many calls it has answered, and all
    stop at the largest of these numbers: no process has passed it, and all get there without waiting for one another.

    Args:
      store: the store of the processes; None for a single process.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._position = 0
        self._stop_after: int | None = None
        self._is_deciding = False
        self._number = 0
        self._exit: Callable[[int], None] = os._exit
        self._lost: Callable[[Exception], None] = lambda error: None
        self._ended = False
        self._thread = threading.Thread(target=self._listen, name="flaxseg-stop", daemon=True)

    @property
    def is_alone(self) -> bool:
        """Whether there is only one process."""
        return self._store is None

    @property
    def position(self) -> int:
        """The number of calls of `should_stop` that have been answered."""
        return self._position

    @property
    def has_begun(self) -> bool:
        """Whether this process has taken a step, so that there is something to save."""
        return self._position > 0

    @property
    def number(self) -> int:
        """The number of the signal that stops the run; 0 if there is none."""
        return self._number

    def start(self, leave: Callable[[int], None], lost: Callable[[Exception], None]) -> None:
        """Begins to listen to the other processes.

        Args:
          leave: ends this process at once with a status; called in a thread, when a process exits because of a signal
            before its first step.
          lost: called in a thread with an error when the store can no longer be reached.
        """
        self._exit, self._lost = leave, lost
        if self._store is not None:
            self._thread.start()

    def close(self) -> None:
        """Ignores what other processes announce from now on."""
        self._ended = True
        if self._store is not None:
            # The thread must not be in the store when the interpreter shuts down, which would abort the process. By
            # now all processes have left the training loop, so that none needs to listen.
            with contextlib.suppress(StoreError):
                self._store.set_once("stop", str(_NOTHING))
            self._thread.join(_FAREWELL_SECONDS)

    def announce(self, number: int) -> None:
        """Makes all processes stop because of a signal; the first one that is announced counts.

        A process that has not taken a step exits at once, and then the others do, too, since no step can be completed.
        """
        if self._store is None:
            with self._condition:
                self._number = self._number or number
                self._stop_after = self._position
            return
        try:
            self._store.set_once("stop", str(number))
        except StoreError:
            self._exit(128 + number)

    def should_stop(self) -> bool:
        """Returns whether the run stops here; once it has returned True, it always does."""
        with self._condition:
            while self._is_deciding:
                self._condition.wait()
            if self._stop_after is not None and self._position >= self._stop_after:
                return True
            self._position += 1
            return False

    def _listen(self) -> None:
        store = self._store
        assert store is not None
        try:
            found = None
            while found is None:
                found = store.wait("stop", seconds=_LISTEN_SECONDS)
            if not self._ended and int(found) != _NOTHING:
                self._decide(store, int(found))
        except StoreError as error:
            if not self._ended:
                self._lost(error)

    def _decide(self, store: Store, number: int) -> None:
        with self._condition:
            self._is_deciding = True
            mine = self._position if self.has_begun else _LEAVING
        try:
            store.set(f"position/{store.index}", str(mine))
            answers = [store.wait(f"position/{i}", seconds=_ANSWER_SECONDS) for i in range(store.count)]
            positions = [_LEAVING if answer is None else int(answer) for answer in answers]
            if _LEAVING in positions:
                self._leave_together(store)
                self._exit(128 + number)
                return
            with self._condition:
                self._number, self._stop_after = number, max(positions)
        except StoreError:
            self._exit(128 + number)
        finally:
            with self._condition:
                self._is_deciding = False
                self._condition.notify_all()

    def _leave_together(self, store: Store) -> None:
        """Lets the first process exit last, because the others read the store that it holds."""
        if store.index > 0:
            store.set(f"left/{store.index}", "")
            return
        for other in range(1, store.count):
            store.wait(f"left/{other}", seconds=_FAREWELL_SECONDS)
        time.sleep(_LAST_SECONDS)
