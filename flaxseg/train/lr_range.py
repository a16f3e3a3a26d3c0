"""The learning-rate range test: a few steps of training at learning rates from very low to very high.

Smith 2017, "Cyclical learning rates for training neural networks", https://arxiv.org/abs/1506.01186, section 3.3
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

from flaxseg.errors import TrainingError, number_of
from flaxseg.train.build import Run
from flaxseg.train.compile import Turn, compile_run
from flaxseg.train.sharding import device_prefetch
from flaxseg.train.state import create_state, load_weights
from flaxseg.train.training_data import training_data

_SMOOTHING = 0.9
"""Decay of the moving average of the loss that detects divergence."""

_DIVERGED = 2.0
"""The test ends when the smoothed loss exceeds the first loss by this many times its largest decrease."""


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """The training loss by learning rate.

    Attributes:
      rates: float64[N], the learning rate of each step, increasing.
      losses: float64[N], the training loss of each step.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smoothed(self) -> np.ndarray:
        """The losses, float64[N], smoothed by a Gaussian with a standard deviation of N / 40 steps."""
        return np.asarray(gaussian_filter1d(self.losses, max(len(self.losses) / 40, 1.0), mode="nearest"))

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest with log(rate), up to the rate of the lowest loss."""
        end = max(int(np.argmin(self.smoothed)) + 1, 3)
        slope = np.gradient(self.smoothed[:end], np.log(self.rates[:end]))
        return float(self.rates[np.argmin(slope)])

    @property
    def falls(self) -> bool:
        """Whether the smoothed loss falls by more than 1% anywhere, so that a rate can be suggested."""
        return bool(self.smoothed[0] - self.smoothed.min() > 0.01 * abs(self.smoothed[0]))

    @property
    def tenth_of_lowest(self) -> float:
        """A tenth of the rate with the lowest smoothed loss."""
        return float(self.rates[np.argmin(self.smoothed)]) / 10


def rising_schedule(lowest: float, highest: float, steps: int) -> optax.Schedule:
    """Returns the schedule of a range test: exponential growth from the lowest to the highest rate."""
    return optax.exponential_decay(lowest, max(steps - 1, 1), highest / lowest)


def sweep_learning_rates(run: Run, *, lowest: float, highest: float, steps: int) -> RangeTest:
    """Runs a range test on the data and devices of a run, and returns its result.

    Args:
      run: built with the schedule `rising_schedule(lowest, highest, steps)`.
      lowest: the first rate.
      highest: the last rate.
      steps: number of rates.

    Raises:
      ConfigError, DataError, WeightsError: see `train_and_evaluate`.
      TrainingError: the loss is not finite from the beginning.
    """
    state = create_state(run, load_weights(run))
    compiled, key, number = compile_run(run, state), run.loop.step_key, itertools.count()
    data, stored = training_data(run, state)

    def step(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        state, metrics, _ = compiled.train(state, batch, key, stored, Turn(next(number), 0, max_skipped=0))
        # From the first step on that is not finite, no step is taken, and the loss would stay as it is.
        return state, jnp.where(metrics.check.code == 0, metrics.loss.total, jnp.nan)

    batches = device_prefetch(data.iterate(data.train_batches), run.loop.mesh)
    return range_test(step, state, batches, lowest=lowest, highest=highest, steps=steps)


def range_test(
    step: Callable[[Any, Any], tuple[Any, jax.Array]],
    state: Any,
    batches: Iterator[Any],
    *,
    lowest: float,
    highest: float,
    steps: int,
) -> RangeTest:
    """Runs the steps of a range test until the loss diverges, and returns its result.

    Args:
      step: (state, batch) -> (state, loss), with an optimizer that follows `rising_schedule` with the same arguments.
      state: the state of a new run.
      batches: one for each step.
      lowest: the first rate.
      highest: the last rate, above the lowest.
      steps: number of rates.

    Raises:
      TrainingError: the loss is not finite from the beginning.
    """
    losses: list[float] = []
    average = largest_fall = 0.0
    last: jax.Array | None = None
    with tqdm(total=steps, desc="learning rates", unit="step", mininterval=0.2) as bar:
        for number in range(steps + 1):
            # The loss of a step is read after the next step has been dispatched.
            state, loss = step(state, next(batches)) if number < steps else (state, None)
            if last is not None:
                losses.append(float(last))
                bar.update()
                average = _SMOOTHING * average + (1 - _SMOOTHING) * losses[-1]
                corrected = average / (1 - _SMOOTHING ** len(losses))
                largest_fall = max(largest_fall, losses[0] - corrected)
                # Relative to the fall, because losses may be negative.
                if not corrected - losses[0] <= _DIVERGED * max(largest_fall, 0.1 * abs(losses[0])):
                    break
            last = loss
    finite = list(itertools.takewhile(math.isfinite, losses))
    if len(finite) < 3:
        raise TrainingError(
            f"the loss is not finite after {number_of(len(finite), 'step')}, at a learning rate of {lowest:g}: begin "
            "with a lower one, or check the labels and config.loss"
        )
    rates = lowest * (highest / lowest) ** (np.arange(len(finite)) / max(steps - 1, 1))
    return RangeTest(rates, np.array(finite))
