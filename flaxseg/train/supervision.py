"""What may end a run before its last step from outside: signals, and the fate of its other processes."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from flaxseg.train.agreement import StopAgreement
from flaxseg.train.coordination import Store
from flaxseg.train.heartbeats import Heartbeats
from flaxseg.train.non_finite import NonFiniteStep
from flaxseg.train.preemption import StopSignals

_runs = itertools.count()
"""Numbers the runs of this program; all processes begin the same ones."""


class Supervision:
    """Supervises a run in its `with` block: signals stop it, and so does the death of another of its processes.

    Signals are described in `preemption`, the agreement of several processes in `agreement`, the detection of dead and
    stalled processes in `heartbeats`.

    Args:
      saves: whether a run that is stopped saves a checkpoint, which it announces.
    """

    def __init__(self, *, saves: bool = True) -> None:
        store = Store.open(str(next(_runs)))
        self._step = self._waits = 0
        self._agreement = StopAgreement(store)
        self._heartbeats = Heartbeats(store, lambda: (self._agreement.position + self._waits, self._step))
        self._signals = StopSignals(self._agreement, saves=saves)
        self._block = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as block:
            block.enter_context(self._heartbeats)
            self._agreement.start(self._signals.leave, self._heartbeats.lost)
            block.callback(self._agreement.close)
            block.enter_context(self._signals)
            self._block = block.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    def before_exit(self, cleanup: Callable[[], None]) -> None:
        """Calls a function before a signal ends the process at once."""
        self._signals.before_exit(cleanup)

    def should_stop(self, step: int) -> bool:
        """Returns whether the run stops here; all processes must call it at the same places.

        Args:
          step: the number of steps taken, for messages about stalled processes.
        """
        self._step = step
        return self._agreement.should_stop()

    def is_stopping(self) -> bool:
        """Returns whether a signal stops the run; for waits between two steps, which must not be taken for a stall."""
        self._waits += 1
        return self.signal > 0

    @property
    def signal(self) -> int:
        """The number of the signal that stops the run; 0 if there is none."""
        return self._agreement.number

    @contextlib.contextmanager
    def training(self, step: int, *, stall_minutes: float) -> Iterator[None]:
        """Marks the part of a run in which processes wait for one another.

        Args:
          step: the step at which it begins.
          stall_minutes: how long the processes may stand still; 0: forever.
        """
        self._step = step
        self._heartbeats.stall_minutes = stall_minutes
        try:
            yield
        except NonFiniteStep:
            raise  # In every process, because the metrics are the same.
        except Exception as error:
            self._heartbeats.explain(error)
            raise
