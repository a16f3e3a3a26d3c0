"""The progress bar of training in the terminal."""

import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from tqdm import tqdm

from flaxseg.report.console import print_line, standard_error
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics

_LOSS = "cross_entropy/mean"
"""The score that is the loss of an evaluation."""


class ProgressBar(Callback):
    """A bar that moves as the device finishes steps, with the loss and the latest score; use it in a `with` block.

    It says that the first step is compiled, shows its loss as soon as it is known, for which it waits, and later losses
    when they are logged. The speed and the remaining time leave out the first step and all evaluations. Each evaluation
    leaves a line with its score, and with the cross-entropy if it is measured.

    Args:
      best_metric: the score to show.
      name: distinguishes the bars of runs that are trained together.
      row: the row of this bar among them; None for the next free one.
    """

    def __init__(self, best_metric: str, *, name: str = "", row: int | None = None) -> None:
        self.name = name
        self._title = name or "train"
        self.row = row
        self._best_metric = best_metric
        # The step that a call ends with, and a scalar that is ready when it has ended.
        self._running: deque[tuple[int, Any]] = deque()
        self._step = 0
        self._shows_loss = False
        self._bar: Any = None
        self._file: Any = None
        self._logged = 0.0
        self._is_after_evaluation = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_start(self, run: Run, state: TrainState) -> None:
        is_notebook = type(sys.stderr).__module__.startswith("ipykernel.")
        is_redrawn = is_notebook or sys.stderr.isatty()
        # Notebooks show standard error on a red background.
        self._file = sys.stdout if is_notebook else standard_error()
        self._step = int(state.step)
        self._bar = tqdm(
            total=run.loop.total_steps,
            initial=self._step,
            desc=f"{self._title}, compiling" if self._step < run.loop.total_steps else self._title,
            position=self.row,
            unit="step",
            # In a file or a pipe, every update is a new line, so there are fewer of them, and those of one run only.
            mininterval=0.2 if is_redrawn else 15.0,
            smoothing=0.1,
            file=self._file,
            # The processes of a run often share a terminal or a file.
            disable=jax.process_index() > 0 or (bool(self.row) and not is_redrawn),
        )
        self._shows_loss = False
        self._logged = time.monotonic()

    def on_step(self, step: int, metrics: TrainMetrics) -> None:
        self._running.append((step, metrics.loss.total))
        if self._is_after_evaluation:
            self._leave_out()
            self._is_after_evaluation = False
        if not self._shows_loss and not self._bar.disable:
            # With several steps per call, there is an axis of steps.
            total, count = (np.ravel(value)[0] for value in (metrics.loss.total, metrics.loss.count))
            self._show_loss(total / count, refresh=True)
            self._bar.unpause()  # So that the speed is that of steps without compilation.
        self._move()

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        self._show_loss(scalars["loss"], refresh=False)
        self._move()
        self._logged = time.monotonic()

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self._leave_out()
        self._is_after_evaluation = True
        score = f"{evaluation.scores[self._best_metric]:.4f}"
        loss = f", cross_entropy {evaluation.scores[_LOSS]:.4f}" if _LOSS in evaluation.scores else ""
        if jax.process_index() == 0:
            print_line(f"{self._title}: step {step:,}, {self._best_metric} {score}{loss}", self._file)
        self._bar.set_postfix({self._best_metric: score})

    def _leave_out(self) -> None:
        """Excludes the time since the last log, that of an evaluation, from the speed and the remaining time."""
        seconds, self._logged = time.monotonic() - self._logged, time.monotonic()
        if not self._bar.disable:
            self._bar.start_t += seconds
            self._bar.last_print_t += seconds

    def _show_loss(self, loss: float, *, refresh: bool) -> None:
        self._shows_loss = True
        self._bar.set_description(f"{self._title}, loss {loss:.4f}", refresh=refresh)

    def _move(self) -> None:
        """Moves the bar over the steps that the device has finished, without waiting for the others."""
        while self._running and self._running[0][1].is_ready():
            step, _ = self._running.popleft()
            self._bar.update(step - self._step)
            self._step = step
