"""Agreement between the processes of a run, which have to take the same decisions in the same order."""

import itertools
import sys
import threading
import time
from collections import Counter

import jax
import numpy as np
from jax.experimental import multihost_utils

from flaxseg.train.coordination import Store

MESSAGE_BYTES = 2048
"""Longer messages are cut off when they are passed to other processes."""

BROKEN = "another process could not save its part"
"""The message of a RuntimeError where a barrier was broken."""

_LONGEST_PAUSE = 0.1

_numbers = itertools.count()
"""Distinguishes the barriers of one object from those of another."""


def messages_of_all(message: str) -> list[str]:
    """Returns the message of each process, in every process; all of them have to call it at the same point."""
    if jax.process_count() == 1:
        return [message]
    encoded = message.encode()[:MESSAGE_BYTES]
    padded = np.frombuffer(encoded.ljust(MESSAGE_BYTES, b"\0"), np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(padded)).astype(np.uint8)
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in gathered.reshape(-1, MESSAGE_BYTES)]


def first_message(message: str) -> str:
    """Returns the message of the first process that has one, in every process; "" if none has one."""
    return next(filter(None, messages_of_all(message)), "")


class Barriers:
    """Barriers between the background threads of several processes, which a process that has failed breaks.

    Without that, the others would wait for it until a timeout. An object can be called like the function that Orbax
    takes as `barrier_sync_fn`. With one process, it does nothing.

    All processes have to create the same ones, in the same order.
    """

    def __init__(self) -> None:
        self._store = Store.open(f"barriers/{next(_numbers)}")
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Waits until every process has called it with this key as often as this one.

        Raises:
          TimeoutError: not all of them have in time.
          RuntimeError: a process has failed.
          StoreError: the first process has ended.
        """
        if self._store is None:
            return
        if sys.exc_info()[0] is not None:
            # Orbax also comes here with the error of a failed save, in a `finally`.
            self.break_all()
            return
        with self._lock:
            self._counts[key] += 1
            place = f"at/{key}/{self._counts[key]}"
        self._store.set(f"{place}/{self._store.index}", "here")
        end, pause = time.monotonic() + timeout_ms / 1000, 0.002
        while len(self._store.all(place)) < self._store.count:
            if self._store.all("broken"):
                raise RuntimeError(BROKEN)
            if time.monotonic() > end:
                raise TimeoutError(f"the other processes did not arrive at {key} within {timeout_ms / 1000:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def break_all(self) -> None:
        """Lets every process that waits at one of these barriers, or will, raise RuntimeError."""
        if self._store is not None:
            self._store.set(f"broken/{self._store.index}", "here")
