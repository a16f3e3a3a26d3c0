"""The callback that records a trace of chosen steps for TensorBoard's Profile tab."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax

from flaxseg.report.console import print_line
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.result import Result
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics


class Profiler(Callback):
    """Records what the host and the devices do from one step to another, in `plugins/profile/` of a directory.

    The host waits for the devices before the first and after the last of these steps, and nowhere else. With several
    steps in a call, all calls that contain one of the steps are recorded. A run that is resumed among these steps
    records the rest of them; one that ends earlier, or is stopped, keeps what there is. Only the first process records,
    and of several runs that are trained together only the first.

    Use it in a `with` block, which ends a trace that is still being recorded.

    Args:
      directory: the directory of the run.
      steps: the first and the last step, from 1; empty to record nothing.
    """

    _recording: ClassVar["Profiler | None"] = None
    """There is one trace at a time in a process."""

    def __init__(self, directory: Path, steps: Sequence[int]) -> None:
        self._directory = directory
        self._steps = tuple(steps) if jax.process_index() == 0 else ()
        self._per_call = self._total = 1
        self._marker = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(Exception):  # The error that ends the run, if any, matters more.
            self._stop()

    def on_start(self, run: Run, state: TrainState) -> None:
        self._per_call, self._total = run.loop.call.steps, run.loop.total_steps
        if self._steps and self._steps[0] > self._total:
            self._report(f"step {self._steps[0]} is not recorded: the run ends with step {self._total}")
        self._start_if_due(int(state.step), state)

    def on_step(self, step: int, metrics: TrainMetrics) -> None:
        if not self._steps:
            return
        if Profiler._recording is not self:
            self._start_if_due(step, metrics)
        elif step < self._steps[1]:
            self._end_marker()
            self._begin_marker(step)
        else:
            jax.block_until_ready(metrics)
            self._stop()

    def on_end(self, result: Result) -> None:
        self._stop()

    def on_error(self, error: BaseException) -> None:
        # One of several runs that are trained together may end long before the others.
        self._stop()

    def _start_if_due(self, step: int, latest: Any) -> None:
        """Begins the trace if the next call contains the first step, or a later one; `latest` is waited for."""
        if not self._steps or step >= min(self._steps[1], self._total):
            return
        if step + self._per_call < self._steps[0] or Profiler._recording is not None:
            return
        jax.block_until_ready(latest)
        try:
            jax.profiler.start_trace(self._directory)
        except Exception as error:  # Such as a trace that the program has begun itself.
            self._give_up("recorded", error)
        else:
            Profiler._recording = self
            self._begin_marker(step)

    def _begin_marker(self, step: int) -> None:
        """Marks what follows as the next call, for the step times of the Profile tab."""
        marker = jax.profiler.StepTraceAnnotation("train", step_num=step + self._per_call)
        self._marker.enter_context(marker)

    def _end_marker(self) -> None:
        self._marker.close()

    def _stop(self) -> None:
        if Profiler._recording is not self:
            return
        Profiler._recording = None
        self._end_marker()
        try:
            jax.profiler.stop_trace()
        except Exception as error:  # Such as a full disk.
            self._give_up("written", error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._steps = ()
        self._report(f"the trace cannot be {what} ({error}); training continues")

    def _report(self, message: str) -> None:
        with contextlib.suppress(OSError):  # Standard error may be a file on a full disk.
            print_line(f"{self._directory / 'plugins' / 'profile'}: {message}")
