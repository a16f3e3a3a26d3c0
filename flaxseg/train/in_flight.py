"""A limit on how far the host runs ahead of the devices."""

import collections
import time
from collections.abc import Callable

import jax

CALLS = 2
"""Number of short calls in flight: the one that the devices compute, and the next, so that they never wait."""

SHORT_SECONDS = 0.5
"""A call of this duration or more is so long that the few milliseconds in which the devices then wait for the host do
not matter."""


class InFlight:
    """Keeps few calls of the training program in flight.

    JAX dispatches steps without waiting for them. If dozens were queued, a run that is asked to stop would have to
    finish all of them first, and the progress bar would show steps that are not computed yet. So short calls are
    dispatched at most CALLS ahead, and after a long one the host waits until it has been computed: a run stops after
    the step in which it is asked to.

    Args:
      clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._outputs: collections.deque[jax.Array] = collections.deque()
        self._allowed = 0  # The first call is often a long one.
        self._computed_at = clock()

    def add(self, output: jax.Array) -> None:
        """Waits until few enough calls are in flight, of which `output` is from the latest."""
        self._outputs.append(output)
        while len(self._outputs) > self._allowed:
            self._outputs.popleft().block_until_ready()
            now = self._clock()
            self._allowed = CALLS if now - self._computed_at < SHORT_SECONDS else 0
            self._computed_at = now
