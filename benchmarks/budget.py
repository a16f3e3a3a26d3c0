"""A time limit for many commands: each has a deadline, and those for which no time is left are skipped."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from measuring import environment, progress


class Outcome(NamedTuple):
    """What a command printed, and why it printed no more."""

    lines: list[dict[str, Any]]
    """The JSON of each line."""
    reason: str
    """Empty if the command ended with status 0."""


class Budget:
    """Divides a number of seconds among commands by their weights; time that one leaves is that of the later ones.

    Args:
      seconds: for all commands together.
      weights: the weight of each command, by name, in the order in which they will run.
      least: a command that would get fewer seconds than this is skipped.
      clock: returns the time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        weights: Mapping[str, float],
        *,
        least: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._least = clock, least
        self._end = clock() + seconds
        self._weights = dict(weights)

    def share(self, name: str) -> float:
        """Returns the seconds that a command may take, and takes its weight out of the rest."""
        total = sum(self._weights.values())
        return max(self._end - self._clock(), 0.0) * self._weights.pop(name) / total

    def run(self, name: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> Outcome:
        """Runs a command until its deadline, and returns what it printed until then."""
        seconds = self.share(name)
        if seconds < self._least:
            return Outcome([], f"skipped: {seconds:.0f} s left")
        progress(f"{name}: at most {seconds:.0f} s")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(variables),
            start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = process.communicate(timeout=seconds)
            reason = f"failed: {_last_line(errors)}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            # Also the processes that it has started, such as those that compile.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            reason = f"stopped after {seconds:.0f} s"
        if reason:
            progress(f"{name}: {reason}")
        return Outcome([json.loads(line) for line in output.splitlines() if line.startswith("{")], reason)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:120].replace("|", "/") if lines else "no message"
