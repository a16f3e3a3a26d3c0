"""A limit on how far the host runs ahead of the devices."""

import collections

import jax

LIMIT = 2
"""Number of calls in flight: the one that the devices compute, and the next, so that they never wait for the host."""


class InFlight:
    """Keeps at most LIMIT calls of the training program in flight.

    JAX dispatches steps without waiting for them. If dozens were queued, a run that is asked to stop would have to
    finish all of them first, and the progress bar would show steps that are not computed yet.
    """

    def __init__(self) -> None:
        self._outputs: collections.deque[jax.Array] = collections.deque()

    def add(self, output: jax.Array) -> None:
        """Waits until all but the last LIMIT calls have been computed, of which `output` is from the latest."""
        self._outputs.append(output)
        while len(self._outputs) > LIMIT:
            self._outputs.popleft().block_until_ready()
