"""A save of Orbax in the background, followed by what completes the checkpoint, and what is left of it if it fails."""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from flaxseg.models.pretrained.array_digests import ArrayDigests, Part, digests_of, held_parts, merged
from flaxseg.models.pretrained.manifest import MARK
from flaxseg.train.coordination import Store
from flaxseg.train.processes import BROKEN, Barriers, messages_of_all
from flaxseg.train.storage import reason

_RUNNING = "\N{HORIZONTAL ELLIPSIS}"
"""What a process whose part is still being saved tells the others."""


_WAIT_FOR_THREADS, _WAIT_FOR_DIGESTS = 30.0, 30.0

_numbers = itertools.count()
"""Distinguishes the digests of one save from those of another."""


class Manager(ocp.CheckpointManager):  # type: ignore[misc]
    """Orbax's checkpoint manager, which keeps every checkpoint, and whose threads end soon after a failure.

    Args:
      directory: the directory of the checkpoints.
    """

    def __init__(self, directory: Path) -> None:
        self.barriers = Barriers()
        options = ocp.options.AsyncOptions(
            barrier_sync_fn=self.barriers,
            # Where a thread creates them and fails, other threads wait for it for minutes, also at exit. With several
            # processes, however, the main threads of the others would wait forever.
            create_directories_asynchronously=jax.process_count() > 1,
        )
        super().__init__(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(async_options=options),
            item_handlers={"state": ocp.StandardCheckpointHandler()},
        )

    def discard(self) -> None:
        """Closes it after a failure, which Orbax raises once more in each thread."""
        for action in (self.wait_until_finished, self.close):
            with contextlib.suppress(Exception):
                action()


class BackgroundSave:
    """The save of a state, which begins at once; with several processes, all begin it together.

    Args:
      manager: saves the state.
      step: its step.
      state: any tree of arrays.
      complete: called in the thread, with the digests of the arrays, when the state has been saved; may raise OSError.

    Raises:
      OSError: it cannot begin.
    """

    def __init__(self, manager: Manager, step: int, state: Any, complete: Callable[[ArrayDigests], None]) -> None:
        self.step = step
        self._manager = manager
        self._complete = complete
        self._problem = ""
        self._agreed: str | None = None
        manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state)), custom_metadata=MARK)
        # Whole arrays are on the host by now, where these views share them; of arrays that are replicated on several
        # accelerators, Orbax has copied only a slice from each, so they are copied once more.
        parts = held_parts(state)
        self._store = Store.open(f"digests/{next(_numbers)}")
        self._thread = threading.Thread(target=self._run, args=(parts,), name="complete checkpoint")
        self._thread.start()

    def has_failed(self) -> bool:
        """Returns whether it has failed in any process; all of them have to call it together."""
        if self._agreed is None:
            messages = messages_of_all(_RUNNING if self._thread.is_alive() else self._problem)
            # The reason is known where it failed first.
            failed = sorted((message for message in messages if message not in ("", _RUNNING)), key=BROKEN.__eq__)
            if failed or not any(messages):
                self._agreed = next(iter(failed), "")
        return bool(self._agreed)

    def result(self) -> str:
        """Waits for its end; returns why it has failed in any process, or "". All of them have to call it together."""
        self.join()
        self.has_failed()
        return self._agreed or ""

    def join(self) -> str:
        """Waits for its end in this process; returns why it has failed here, or ""."""
        self._thread.join()
        return self._problem

    def _run(self, parts: list[Part]) -> None:
        try:
            digests = digests_of(parts)
            # The old state is no longer needed in memory.
            parts.clear()
            if self._store is not None:
                self._store.set(str(self._store.index), json.dumps(digests))
            self._manager.wait_until_finished()
            self._complete(digests if self._store is None else merged(self._digests_of_all(self._store)))
        # Orbax has no error type for storage.
        except BaseException as error:
            self._manager.barriers.break_all()
            _wait_for_orbax()
            self._problem = reason(error)

    def _digests_of_all(self, store: Store) -> list[ArrayDigests]:
        """Returns what each process has stored before it waited for the others; in the first process only."""
        if store.index > 0:
            return []
        names = [str(index) for index in range(store.count)]
        found = [store.wait(name, seconds=_WAIT_FOR_DIGESTS) for name in names]
        for name in names:
            store.delete(name)
        return [json.loads(text) for text in found if text is not None]


def _wait_for_orbax() -> None:
    """Waits until no thread of a failed save writes any more, but not forever."""
    end = time.monotonic() + _WAIT_FOR_THREADS
    while time.monotonic() < end and any(
        type(thread).__module__.startswith("orbax.") for thread in threading.enumerate()
    ):
        time.sleep(0.05)
