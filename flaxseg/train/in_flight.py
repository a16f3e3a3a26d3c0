"""The steps that have been dispatched, and that the devices may still be computing."""

import collections

import jax

LIMIT = 2
"""Number of calls that are dispatched ahead: one that the devices compute, and one that they begin at once after it."""


class InFlight:
    """Keeps the host from running further ahead of the devices than LIMIT calls, without which they would wait.

    JAX dispatches steps without waiting for them. If dozens were queued, a run that is to stop would take all of them
    first, and its progress would be that of the queue.
    """

    def __init__(self) -> None:
        self._outputs: collections.deque[jax.Array] = collections.deque()

    def add(self, output: jax.Array) -> None:
        """Waits until all but the last LIMIT calls have been computed, of which `output` is from the latest."""
        self._outputs.append(output)
        while len(self._outputs) > LIMIT:
            self._outputs.popleft().block_until_ready()
