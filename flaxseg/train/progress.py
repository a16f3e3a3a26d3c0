"""The progress of training: a bar on the terminal and scalars for the summaries, without holding up the device."""

import contextlib
import functools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import jax
from tqdm import tqdm

from flaxseg.errors import TrainingError
from flaxseg.train.hard_examples import HardExamples
from flaxseg.train.step_metrics import TrainMetrics

WriteScalars = Callable[[int, Mapping[str, float]], None]
WriteHardest = Callable[[int, HardExamples], None]


class TrainingProgress:
    """Takes each step's metrics as it is dispatched and reads them once the device is past it.

    Scalars of step s are fetched after step s + 1 was dispatched, so the device always has work. That is also
    the only place where the host waits, so it is never more than `every` steps ahead.

    Args:
      write: (step, scalars), called every `every` steps and at the end.
      learning_rate: the schedule, by step.
      start: the step that the run begins or goes on at.
      total: its last step.
      every: steps between scalars.
      batch_size: pictures a step.
      write_hardest: (step, examples), called along with `write` where the steps tell their hardest examples.
    """

    def __init__(
        self, write: WriteScalars, learning_rate: Callable[[int], Any], *,
        start: int, total: int, every: int, batch_size: int, write_hardest: WriteHardest | None = None,
    ) -> None:  # fmt: skip
        self._write = write
        self._write_hardest = write_hardest
        self._learning_rate = learning_rate
        self._every = every
        self._batch_size = batch_size
        self._last = start
        self._running: deque[TrainMetrics] = deque()
        self._finished: list[TrainMetrics] = []
        self._since = time.perf_counter()
        # A file or a pipe gets a line now and then, a terminal a bar that moves.
        interval = 0.2 if sys.stderr.isatty() else 15.0
        self._bar = tqdm(total=total, initial=start, desc="train", unit="step", mininterval=interval, smoothing=0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._bar.close()

    def add(self, step: int, metrics: TrainMetrics) -> None:
        """Takes the metrics of a step that was just dispatched."""
        if self._last % self._every == 0:
            self.flush()
        self._last = step
        self._running.append(metrics)
        self._collect()

    def show(self, scores: Mapping[str, float]) -> None:
        """Shows the scores of an evaluation beside the bar."""
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in scores.items()})

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time spent inside out of the throughput, once the steps before it are done."""
        self.flush()
        yield
        self._since = time.perf_counter()

    def _collect(self) -> None:
        """Moves the bar over the steps that the device has finished, without waiting for the others."""
        while self._running and self._running[0].loss.total.is_ready():
            self._finished.append(self._running.popleft())
            self._bar.update()

    def flush(self) -> None:
        """Waits for the steps that were taken and writes their averages.

        Raises:
          TrainingError: the loss, the gradient or the update of one of them was not finite; names the first.
        """
        if not self._running and not self._finished:
            return
        while self._running:
            jax.block_until_ready(self._running[0].loss.total)
            self._collect()
        finished = jax.device_get(self._finished)
        steps = len(finished)
        self._finished.clear()
        for step, metrics in enumerate(finished, self._last - steps + 1):
            _check_finite(step, metrics)
        merged = functools.reduce(TrainMetrics.merge, finished)
        scalars = merged.compute()
        seconds = time.perf_counter() - self._since
        self._since = time.perf_counter()
        # On the host's own device: on an accelerator it would wait behind the steps already dispatched.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            scalars["learning_rate"] = float(self._learning_rate(self._last - 1)) * scalars.pop("rate_scale")
        scalars["steps_per_second"] = steps / seconds
        scalars["images_per_second"] = self._batch_size * steps / seconds
        self._bar.set_description(f"train, loss {scalars['loss']:.4f}", refresh=False)
        self._write(self._last, scalars)
        if merged.hardest is not None and self._write_hardest is not None:
            self._write_hardest(self._last, merged.hardest)


def _check_finite(step: int, metrics: TrainMetrics) -> None:
    if all(math.isfinite(measured.total) for measured in (metrics.loss, metrics.grad_norm, metrics.update_norm)):
        return
    values = ", ".join(f"{name} = {value:.4g}" for name, value in metrics.compute().items() if name != "rate_scale")
    raise TrainingError(
        f"step {step}: the loss, its gradient or the step taken is not finite ({values}). No checkpoint of it was "
        "written; those of earlier steps are as they were. Use a new --workdir with a lower "
        "config.optimizer.learning_rate, more config.optimizer.warmup_steps, config.optimizer.grad_clip = 1.0, or "
        "config.train.precision = 'float32'. A label that is no class makes the loss NaN, too"
    )
