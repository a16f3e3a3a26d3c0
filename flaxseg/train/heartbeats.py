"""Heartbeats: a process of a run that has died or stands still ends the others with a message that names it."""

import contextlib
import dataclasses
import faulthandler
import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import jax

from flaxseg.report.console import print_line
from flaxseg.train.coordination import Store, StoreError
from flaxseg.train.witness import Witness

BEAT_SECONDS = 2.0
"""Time between the heartbeats of a process."""

DEATH_SECONDS = 20.0
"""A process whose heartbeat has been missing for so long is taken for dead."""

_STORE_SECONDS = 10.0
"""The longest time that the store may take to answer at the end of the run."""

_VERDICT_SECONDS = DEATH_SECONDS + 5 * BEAT_SECONDS


@dataclasses.dataclass
class Heartbeat:
    """What a process last said of itself, and when this process saw it change.

    Attributes:
      name: the process for people: its number, host and process id.
      beat: the number of its heartbeats.
      position: how far it has come; see `StopAgreement.position`.
      step: the last step that it has begun.
      is_done: whether it has finished its part of the run, after which it may end.
      beat_changed: when `beat` changed, in seconds of this process's clock.
      position_changed: when `position` changed.
    """

    name: str
    beat: int
    position: int
    step: int
    is_done: bool
    beat_changed: float
    position_changed: float


class Heartbeats:
    """Watches the processes of a run in its `with` block; does nothing if there is only one.

    When a process has died, the others exit within 30 s, with status 1. (When it is the first one, which coordinates
    the others, JAX aborts them at once, with status 134, and their witnesses name it.) When none of them has taken a
    step for `stall_minutes`, all exit. Each says which process was the cause and its last step, and prints the stacks
    of its own threads. Collective operations would wait for such a process forever.

    Args:
      store: the store of the processes; None for a single process.
      progress: returns this process's position, and the number of its last step.
      stall_minutes: how long the processes may stand still after their first step; 0: forever.
    """

    def __init__(
        self, store: Store | None, progress: Callable[[], tuple[int, int]], *, stall_minutes: float = 0.0
    ) -> None:
        self._store = store
        self._progress = progress
        self.stall_minutes = stall_minutes
        self._ended = threading.Event()
        self._heard: dict[int, Heartbeat] = {}
        self._beat = 0
        self._witness: Witness | None = None
        # When this process exits unless it has ended by itself; set once any process has said why it ends.
        self._exit_at = math.inf
        self._thread = threading.Thread(target=self._run, name="flaxseg-heartbeats", daemon=True)

    def __enter__(self) -> Self:
        if self._store is not None:
            # JAX aborts the process when the first one, which holds the store, has ended.
            faulthandler.enable()
            if self._store.index > 0 and self._store.address:
                self._witness = Witness(self._store.address)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._store is None:
            return
        self._thread.join(_STORE_SECONDS)
        if self._witness is not None:
            self._witness.dismiss()
        if error is None:
            with contextlib.suppress(StoreError):
                self._say(self._store, is_done=True)

    def lost(self, error: Exception) -> None:
        """Ends this process, because the store cannot be reached."""
        if self._ended.is_set():
            return
        first = self._heard.get(0)
        name, step = (first.name, first.step) if first is not None else ("process 0", 0)
        self._exit(
            f"{name}, which coordinates the processes, has ended or cannot be reached; its last known step was {step} "
            f"({error})"
        )

    def explain(self, error: BaseException) -> None:
        """Tells the other processes that this one ends with an error, unless another process is the cause of it.

        A collective operation raises an error when another process has ended. This method then waits until the
        heartbeats show it, and this process exits.
        """
        if self._store is None:
            return
        if isinstance(error, jax.errors.JaxRuntimeError):
            self._ended.wait(_VERDICT_SECONDS)
        reason = (str(error).splitlines() or [""])[0]
        self._exit_at = time.monotonic() + _VERDICT_SECONDS
        try:
            self._store.set_once("end/reason", f"{_name(self._store)} ended with {type(error).__name__}: {reason}")
        except StoreError:
            return

    def _run(self) -> None:
        store = self._store
        assert store is not None
        while not self._ended.is_set():
            try:
                self._say(store)
                self._hear(store.all("alive"))
                self._tell_witness(store)
                verdict = self._said(store) or self._verdict()
            except StoreError as error:
                self.lost(error)
                return
            if verdict and not self._ended.is_set():
                self._tell(store, verdict)
                self._exit(verdict)
            self._ended.wait(BEAT_SECONDS)

    def _say(self, store: Store, *, is_done: bool = False) -> None:
        self._beat += 1
        position, step = self._progress()
        said = {"name": _name(store), "beat": self._beat, "position": position, "step": step, "is_done": is_done}
        store.set(f"alive/{store.index}", json.dumps(said))

    def _hear(self, alive: Mapping[str, str]) -> None:
        now = time.monotonic()
        for index, text in alive.items():
            said = json.loads(text)
            if int(index) == 0 and 0 not in self._heard:
                self._introduce(said["name"])
            before = self._heard.get(int(index))
            beat_changed = before.beat_changed if before and before.beat == said["beat"] else now
            moved = before is None or before.position != said["position"]
            position_changed = now if moved or before is None else before.position_changed
            self._heard[int(index)] = Heartbeat(**said, beat_changed=beat_changed, position_changed=position_changed)

    def _said(self, store: Store) -> str:
        """Returns why another process has ended, as it said itself, once this one has had the time to end likewise.

        Errors of storage, for example, are raised by all processes.
        """
        if reason := store.all("end").get("reason", ""):
            self._exit_at = time.monotonic() + BEAT_SECONDS if math.isinf(self._exit_at) else self._exit_at
        return reason if time.monotonic() > self._exit_at else ""

    def _introduce(self, first: str) -> None:
        """Names the first process in the log of every other one, because JAX aborts them when it has ended."""
        store = self._store
        assert store is not None
        if store.index > 0:
            print_line(f"process {store.index} of {store.count}; {first} coordinates them: when it ends, all end")

    def _tell(self, store: Store, verdict: str) -> None:
        """Tells the verdict to the other processes; the first one, which holds the store, then exits last."""
        with contextlib.suppress(StoreError):
            store.set_once("end/reason", verdict)
        if store.index == 0:
            time.sleep(2 * BEAT_SECONDS)

    def _verdict(self) -> str:
        """Returns why the run cannot go on; "" if it can."""
        now, running = time.monotonic(), [heard for _, heard in sorted(self._heard.items()) if not heard.is_done]
        silent = [heard for heard in running if now - heard.beat_changed > DEATH_SECONDS]
        if silent:
            return "; ".join(
                f"{heard.name} has died: nothing has been heard from it for {now - heard.beat_changed:.0f} s; its last "
                f"known step was {heard.step}"
                for heard in silent
            )
        # The first step is compiled, which may take long.
        if not self.stall_minutes or not running or any(heard.position == 0 for heard in running):
            return ""
        standing = min(now - heard.position_changed for heard in running)
        if standing < 60 * self.stall_minutes:
            return ""
        last = min(heard.position for heard in running)
        behind = [heard for heard in running if heard.position == last]
        who = (
            "all are at the same position"
            if len(behind) == len(running)
            else ("the others wait for " + ", ".join(heard.name for heard in behind))
        )
        return (
            f"no process has gone on for {standing / 60:.1f} minutes (config.train.stall_minutes = "
            f"{self.stall_minutes:g}); {who}; the last known step was {behind[0].step}"
        )

    def _tell_witness(self, store: Store) -> None:
        first = self._heard.get(0)
        if self._witness is not None and first is not None:
            self._witness.tell(own=_name(store), first=first.name, step=first.step)

    def _exit(self, verdict: str) -> None:
        """Ends this process, which may be waiting in a collective operation that never returns."""
        assert self._store is not None
        if self._witness is not None:
            self._witness.dismiss()
        print(
            f"\nerror: {_name(self._store)} stops: {verdict}. The stacks of its threads:", file=sys.stderr, flush=True
        )
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        print("repeat the command in all processes to resume from the latest checkpoint", file=sys.stderr, flush=True)
        os._exit(1)


def _name(store: Store) -> str:
    return f"process {store.index} ({socket.gethostname()}, process id {os.getpid()})"
