"""Training scalars: averages over the steps since the last log, read without stalling the device."""

import functools
import operator
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from flaxseg.train.non_finite import NonFinite, NonFiniteStep
from flaxseg.train.step_metrics import TrainMetrics


class StepLog:
    """Collects the metrics of dispatched steps, and reads them on request.

    Args:
      learning_rate: the learning rate by the number of updates before.
      batch_size: number of examples in a batch, for the throughput.
      skipped: number of steps that the run has skipped before.
      on_skip: called with each skipped step when it is read; None where no step is skipped.
    """

    def __init__(
        self,
        learning_rate: Callable[[int], Any],
        *,
        batch_size: int,
        skipped: int = 0,
        on_skip: Callable[[NonFinite], None] | None = None,
    ) -> None:
        self._learning_rate = jax.jit(learning_rate)
        self._batch_size = batch_size
        self._on_skip = on_skip
        self._pending: list[TrainMetrics] = []
        self.skipped = skipped
        self.restart_clock()

    def __bool__(self) -> bool:
        """Whether there are steps that have not been read yet."""
        return bool(self._pending)

    def add(self, metrics: TrainMetrics) -> None:
        """Adds the metrics of the call that was just dispatched: of one step, or with a leading axis of steps."""
        self._pending.append(metrics)

    def read(self, step: int) -> tuple[dict[str, float], TrainMetrics]:
        """Waits for the steps added since the last call and returns their averages, and their merged metrics.

        Skipped steps are excluded, unless there are no others.

        Args:
          step: the number of the last of them.

        Raises:
          NonFiniteStep: one of them is not finite and was not skipped, so it and the later ones were not taken.
        """
        self._rate_after(step - 1 - self.skipped)  # The first time, it is compiled while the device works.
        jax.block_until_ready(self._pending[-1].loss.total)
        finished = [metrics for call in jax.device_get(self._pending) for metrics in _steps_of(call)]
        self._pending.clear()
        taken = [
            metrics
            for number, metrics in enumerate(finished, step - len(finished) + 1)
            if self._was_taken(number, metrics)
        ]
        merged = functools.reduce(TrainMetrics.merge, taken or finished).replace(check=finished[-1].check)  # type: ignore[attr-defined]
        scalars = merged.compute()
        rate = self._steps_per_second(len(finished))
        self.restart_clock()
        multiplier = float(merged.plateau_multiplier.compute())
        scalars["learning_rate"] = self._rate_after(step - 1 - self.skipped) * multiplier
        scalars["steps_per_second"], scalars["images_per_second"] = rate, self._batch_size * rate
        if self._on_skip is not None or self.skipped:
            scalars["skipped_steps"] = float(self.skipped)
        return scalars, merged

    def restart_clock(self) -> None:
        """Excludes the time until now from the throughput."""
        self._began = self._since = time.perf_counter()
        self._slow = 0

    def leave_out(self) -> None:
        """Excludes the steps added so far and their time from the throughput, unless no others are added."""
        self._since = time.perf_counter()
        self._slow = sum(np.size(metrics.loss.total) for metrics in self._pending)

    def _steps_per_second(self, count: int) -> float:
        steps, since = (count - self._slow, self._since) if count > self._slow else (count, self._began)
        return steps / (time.perf_counter() - since)

    def _rate_after(self, updates: int) -> float:
        """Returns the learning rate after a number of updates."""
        # On the host's CPU, because an accelerator would compute it only after the steps already dispatched.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            return float(self._learning_rate(max(updates, 0)))

    def _was_taken(self, step: int, metrics: TrainMetrics) -> bool:
        """Returns whether a step was taken; if it was skipped instead, counts it.

        Raises:
          NonFiniteStep: it was neither taken nor skipped.
        """
        if int(metrics.check.code) == 0:
            return True
        finding = NonFinite.in_metrics(step, metrics)
        if int(metrics.check.skipped) == self.skipped:
            raise NonFiniteStep(finding)
        self.skipped += 1
        if self._on_skip is not None:
            self._on_skip(finding)
        return False


def _steps_of(metrics: TrainMetrics) -> list[TrainMetrics]:
    """Returns the metrics of each step of a call, from those on the host."""
    if np.ndim(metrics.loss.total) == 0:
        return [metrics]
    return [jax.tree.map(operator.itemgetter(step), metrics) for step in range(len(metrics.loss.total))]
