"""A learning rate that is reduced on plateaus of the training loss."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from flaxseg.errors import FRACTION, NON_NEGATIVE, ArgumentError, Range, check_integer


def plateau(
    peak: float,
    steps: int,
    *,
    factor: float = 0.1,
    patience: int = 5,
    window: int = 100,
    min_improvement: float = 1e-4,
    end: float = 0.0,
) -> "Plateau":
    """Returns a learning rate that is reduced whenever the training loss stops improving.

    Args:
      peak: the initial learning rate.
      steps: the number of steps of the run.
      factor: the factor of each reduction, above 0 and below 1.
      patience: the number of consecutive windows without improvement before a reduction.
      window: the number of steps over which the loss is averaged before it is compared with the lowest average so
        far; warm-up steps are excluded.
      min_improvement: an average loss counts as an improvement if it is lower than the lowest so far by more than
        this; at least 0.
      end: the lowest learning rate as a fraction of the peak, from 0 to 1.

    Raises:
      ArgumentError: an option is out of range, or the run is too short for a reduction.
    """
    Range(0, 1, above=True, below=True).check("factor", factor)
    check_integer("patience", patience, 1)
    check_integer("window", window, 1)
    NON_NEGATIVE.check("min_improvement", min_improvement)
    FRACTION.check("end", end)
    earliest = window * (patience + 1)
    if earliest >= steps:
        raise ArgumentError(
            "window",
            window,
            f"with patience = {patience} the first reduction is possible after {earliest} steps, but the run has only "
            f"{steps} after warm-up; use a smaller window or patience, or train longer",
        )
    transformation = contrib.reduce_on_plateau(
        factor=factor,
        patience=patience,
        rtol=0.0,
        # optax requires a positive tolerance.
        atol=max(min_improvement, 1e-30),
        accumulation_size=window,
        min_scale=end,
    )
    return Plateau(optax.constant_schedule(peak), transformation)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """A schedule whose learning rate is also reduced on plateaus of the loss; `make_optimizer` applies both.

    Attributes:
      schedule: the learning rate at each step, before any reduction.
      transformation: multiplies updates, the learning rate included, by the current plateau multiplier; its `update`
        takes the loss as `value`.
    """

    schedule: optax.Schedule
    transformation: optax.GradientTransformationExtraArgs

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at a step, before any reduction."""
        return self.schedule(step)

    def with_warmup(self, schedule: optax.Schedule, steps: int) -> "Plateau":
        """Returns a plateau that follows another schedule and ignores the losses of its first steps.

        Args:
          schedule: the learning rate at each step, warm-up included.
          steps: the number of warm-up steps.
        """
        after_warmup = optax.conditionally_transform(
            self.transformation, lambda step, **_: step >= steps, forward_extra_args=True
        )
        return Plateau(schedule, after_warmup)


def plateau_multiplier(opt_state: Any) -> jax.Array:
    """Returns the current multiplier of the plateau schedule, a float32 scalar; 1 with any other schedule.

    Args:
      opt_state: the state of an optimizer from `make_optimizer`, with or without frozen parameters.
    """
    is_plateau = lambda state: isinstance(state, contrib.ReduceLROnPlateauState)  # noqa: E731
    states = [state for state in jax.tree.leaves(opt_state, is_leaf=is_plateau) if is_plateau(state)]
    return jnp.asarray(states[0].scale if states else 1.0, jnp.float32)
