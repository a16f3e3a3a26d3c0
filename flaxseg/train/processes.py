"""Agreement between the processes of a run, which have to take the same decisions in the same order."""

import sys
import threading
import time
from collections import Counter

import jax
import numpy as np
from jax.experimental import multihost_utils

MESSAGE_BYTES = 2048
"""Longer messages are cut off when they are passed to other processes."""

BROKEN = "another process could not save its part"
"""The message of a RuntimeError where a barrier was broken."""

_LONGEST_PAUSE = 0.1


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

    Args:
      name: distinguishes these barriers from others; the same in every process.
    """

    def __init__(self, name: str) -> None:
        self._place = f"flaxseg/{name}"
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Waits until every process has called it with this key as often as this one.

        Raises:
          TimeoutError: not all of them have in time.
          RuntimeError: a process has failed.
        """
        if jax.process_count() == 1:
            return
        if sys.exc_info()[0] is not None:
            # Orbax also comes here with the error of a failed save, in a `finally`.
            self.break_all()
            return
        with self._lock:
            self._counts[key] += 1
            place = f"{self._place}/at/{key}/{self._counts[key]}/"
        client = _client()
        client.key_value_set(f"{place}{jax.process_index()}", "here")
        end, pause = time.monotonic() + timeout_ms / 1000, 0.002
        while len(client.key_value_dir_get(place)) < jax.process_count():
            if client.key_value_dir_get(f"{self._place}/broken/"):
                raise RuntimeError(BROKEN)
            if time.monotonic() > end:
                raise TimeoutError(f"the other processes did not arrive at {key} within {timeout_ms / 1000:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def break_all(self) -> None:
        """Lets every process that waits at one of these barriers, or will, raise RuntimeError."""
        if jax.process_count() > 1:
            _client().key_value_set(f"{self._place}/broken/{jax.process_index()}", "here", allow_overwrite=True)


def _client() -> "jax._src.lib._jax.DistributedRuntimeClient":
    from jax._src import distributed

    return distributed.global_state.client
