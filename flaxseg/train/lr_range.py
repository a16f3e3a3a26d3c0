"""The learning-rate range test: the loss at rates from very low to very high, within a few steps.

Smith 2017, "Cyclical learning rates for training neural networks", https://arxiv.org/abs/1506.01186, section 3.3
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from tqdm import tqdm

from flaxseg.errors import TrainingError
from flaxseg.report.drawing import rendered

_MEMORY = 0.9
_DIVERGED = 2.0


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """The training loss by learning rate.

    Attributes:
      rates: float64[N], rising.
      losses: float64[N], of the step that was taken at each rate.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smoothed(self) -> np.ndarray:
        """float64[N]: the losses averaged with those around them, by a Gaussian of a fortieth of their number."""
        return np.asarray(gaussian_filter1d(self.losses, max(len(self.losses) / 40, 1.0), mode="nearest"))

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest with the logarithm of the rate, before its lowest."""
        end = max(int(np.argmin(self.smoothed)) + 1, 3)
        slope = np.gradient(self.smoothed[:end], np.log(self.rates[:end]))
        return float(self.rates[np.argmin(slope)])

    @property
    def falls(self) -> bool:
        """Whether the smoothed loss ever falls by more than a hundredth of it, so that there is a rate to suggest."""
        return bool(self.smoothed[0] - self.smoothed.min() > 0.01 * abs(self.smoothed[0]))

    @property
    def tenth_of_lowest(self) -> float:
        """A tenth of the rate at which the smoothed loss is lowest."""
        return float(self.rates[np.argmin(self.smoothed)]) / 10


def rising(lowest: float, highest: float, steps: int) -> optax.Schedule:
    """Returns the schedule of the test: from the lowest to the highest rate by equal factors."""
    return optax.exponential_decay(lowest, max(steps - 1, 1), highest / lowest)


def range_test(
    step: Callable[[Any, Any], tuple[Any, jax.Array]],
    state: Any,
    batches: Iterator[Any],
    *,
    lowest: float,
    highest: float,
    steps: int,
) -> RangeTest:
    """Takes the steps, until the loss is as far above its beginning as twice its fall, or no longer finite.

    Args:
      step: (state, batch) -> (state, loss), with an optimizer that follows rising() of the same arguments.
      state: that of a new run.
      batches: one for each step.
      lowest: first rate.
      highest: last rate, above the lowest.
      steps: how many rates.

    Raises:
      TrainingError: the loss was not finite before there was anything to see.
    """
    losses: list[float] = []
    average = highest_fall = 0.0
    last: jax.Array | None = None
    with tqdm(total=steps, desc="learning rates", unit="step", mininterval=0.2) as bar:
        for number in range(steps + 1):
            # The loss of the step before is read once this one runs.
            state, loss = step(state, next(batches)) if number < steps else (state, None)
            if last is not None:
                losses.append(float(last))
                bar.update()
                average = _MEMORY * average + (1 - _MEMORY) * losses[-1]
                corrected = average / (1 - _MEMORY ** len(losses))
                highest_fall = max(highest_fall, losses[0] - corrected)
                # Far above where it began, as seen from how far it ever fell; losses may be negative.
                if not corrected - losses[0] <= _DIVERGED * max(highest_fall, 0.1 * abs(losses[0])):
                    break
            last = loss
    finite = list(itertools.takewhile(math.isfinite, losses))
    if len(finite) < 3:
        raise TrainingError(
            f"the loss is not finite after {len(finite)} step(s), at a learning rate of {lowest:g} already: begin with "
            "a lower one, or check the labels and config.loss"
        )
    rates = lowest * (highest / lowest) ** (np.arange(len(finite)) / max(steps - 1, 1))
    return RangeTest(rates, np.array(finite))


def plot(found: RangeTest) -> np.ndarray:
    """Returns a picture, uint8[H, W, 3], of the losses with the suggested rates."""
    figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
    axis = figure.subplots()
    axis.plot(found.rates, found.losses, color="0.75", label="loss of each step")
    axis.plot(found.rates, found.smoothed, color="C0", linewidth=2, label="smoothed")
    for rate, color, name in (
        (found.steepest, "C1", "steepest"),
        (found.tenth_of_lowest, "C2", "a tenth of the lowest's"),
    ):
        axis.axvline(rate, color=color, linestyle="--", label=f"{name}: {rate:.1e}")
    low, high = found.losses.min(), found.smoothed[0]
    axis.set_ylim(low - 0.1 * abs(high - low) - 1e-6, high + 0.6 * abs(high - low) + 1e-6)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.legend()
    return rendered(figure)
