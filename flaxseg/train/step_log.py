"""Training scalars: averages over the steps since the last log, read without stalling the device."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax

from flaxseg.errors import TrainingError
from flaxseg.train.step_metrics import TrainMetrics


class StepLog:
    """Collects the metrics of dispatched steps, and reads them on request.

    Args:
      learning_rate: the learning rate at each step.
      batch_size: number of examples in a batch, for the throughput.
    """

    def __init__(self, learning_rate: Callable[[int], Any], *, batch_size: int) -> None:
        self._learning_rate = learning_rate
        self._batch_size = batch_size
        self._pending: list[TrainMetrics] = []
        self._since = time.perf_counter()

    def __bool__(self) -> bool:
        """Whether there are steps that have not been read yet."""
        return bool(self._pending)

    def add(self, metrics: TrainMetrics) -> None:
        """Adds the metrics of the step that was just dispatched."""
        self._pending.append(metrics)

    def read(self, step: int) -> tuple[dict[str, float], TrainMetrics]:
        """Waits for the steps added since the last call and returns their averages, and their merged metrics.

        Args:
          step: the number of the last of them.

        Raises:
          TrainingError: the loss, gradient or update of one of them is not finite; the message names the first.
        """
        jax.block_until_ready(self._pending[-1].loss.total)
        finished = jax.device_get(self._pending)
        self._pending.clear()
        for number, metrics in enumerate(finished, step - len(finished) + 1):
            _check_finite(number, metrics)
        merged = functools.reduce(TrainMetrics.merge, finished)
        scalars = merged.compute()
        seconds = time.perf_counter() - self._since
        self.restart_clock()
        # On the host's CPU, because an accelerator would compute it only after the steps already dispatched.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            scalars["learning_rate"] = float(self._learning_rate(step - 1)) * scalars.pop("plateau_multiplier")
        scalars["steps_per_second"] = len(finished) / seconds
        scalars["images_per_second"] = self._batch_size * len(finished) / seconds
        return scalars, merged

    def restart_clock(self) -> None:
        """Excludes the time since the last read from the throughput."""
        self._since = time.perf_counter()


def _check_finite(step: int, metrics: TrainMetrics) -> None:
    if all(math.isfinite(measured.total) for measured in (metrics.loss, metrics.grad_norm, metrics.update_norm)):
        return
    values = ", ".join(
        f"{name} = {value:.4g}" for name, value in metrics.compute().items() if name != "plateau_multiplier"
    )
    raise TrainingError(
        f"step {step}: the loss, its gradient or the update is not finite ({values}). No checkpoint of this step was "
        "written; those of earlier steps are unchanged. Use a new --workdir with a lower "
        "config.optimizer.learning_rate, more config.optimizer.warmup_steps, config.optimizer.grad_clip = 1.0, or "
        "config.train.precision = 'float32'. An out-of-range label makes the loss NaN as well"
    )
