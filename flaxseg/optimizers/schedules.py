"""Learning-rate schedules by name, composed of optax."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from flaxseg.errors import ConfigError
from flaxseg.registry import look_up


def constant(peak: float, steps: int) -> optax.Schedule:
    """Returns a rate that stays at its peak."""
    del steps
    return optax.constant_schedule(peak)


def cosine(peak: float, steps: int, *, end: float = 0.0) -> optax.Schedule:
    """Returns a rate that falls along half a cosine (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983).

    Args:
      peak: where it begins.
      steps: how long it falls.
      end: the share of the peak that it falls to.
    """
    _check_share("end", end)
    return optax.cosine_decay_schedule(peak, max(steps, 1), alpha=end)


def polynomial(peak: float, steps: int, *, power: float = 0.9, end: float = 0.0) -> optax.Schedule:
    """Returns a rate that falls as (1 - step / steps)^power, "poly" of the DeepLab papers.

    Chen et al. 2017, https://arxiv.org/abs/1606.00915, section 4.1

    Args:
      peak: where it begins.
      steps: how long it falls.
      power: above 0; 1 is a straight line.
      end: the share of the peak that it falls to.
    """
    _check_positive("power", power)
    _check_share("end", end)
    return optax.polynomial_schedule(peak, end * peak, power, max(steps, 1))


def exponential(peak: float, steps: int, *, end: float = 0.01) -> optax.Schedule:
    """Returns a rate that falls by the same factor with every step.

    Args:
      peak: where it begins.
      steps: how long it falls.
      end: the share of the peak that it falls to, above 0.
    """
    _check_share("end", end)
    _check_positive("end", end)
    return optax.exponential_decay(peak, max(steps, 1), end)


def step(peak: float, steps: int, *, boundaries: Sequence[float] = (0.6, 0.8), factor: float = 0.1) -> optax.Schedule:
    """Returns a rate that is multiplied by a factor at some points of the run.

    Args:
      peak: where it begins.
      steps: how long the run is.
      boundaries: those points, as shares of `steps`, rising, between 0 and 1.
      factor: what the rate is multiplied by at each, 0 to 1.
    """
    _check_share("factor", factor)
    if list(boundaries) != sorted(set(boundaries)) or not all(0 < boundary < 1 for boundary in boundaries):
        raise ConfigError(
            f"boundaries = {tuple(boundaries)}: must be rising shares of the run, between 0 and 1; "
            "the rate would change after the run's end otherwise"
        )
    # In a short run, two may round to one step.
    at = [round(share * steps) for share in boundaries]
    return optax.piecewise_constant_schedule(peak, {step: factor ** at.count(step) for step in at})


def one_cycle(
    peak: float, steps: int, *, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> optax.Schedule:
    """Returns a rate that rises to its peak and falls far below where it began, both along half a cosine.

    Smith & Topin 2018, https://arxiv.org/abs/1708.07120

    Args:
      peak: the highest rate.
      steps: how long the cycle is.
      pct_start: the share of the steps in which it rises.
      div_factor: it begins at the peak divided by this.
      final_div_factor: it ends at its beginning divided by this.
    """
    _check_share("pct_start", pct_start)
    _check_positive("div_factor", div_factor)
    _check_positive("final_div_factor", final_div_factor)
    start, rising = peak / div_factor, max(round(pct_start * steps), 1)
    rise = lambda count: start + (peak - start) * (1 - jnp.cos(jnp.pi * jnp.minimum(count / rising, 1))) / 2  # noqa: E731
    fall = optax.cosine_decay_schedule(peak, max(steps - rising, 1), alpha=1 / (div_factor * final_div_factor))
    return optax.join_schedules([rise, fall], [rising])


def warmup_stable_decay(peak: float, steps: int, *, decay: float = 0.2, end: float = 0.0) -> optax.Schedule:
    """Returns a rate that stays at its peak and falls near the end as 1 minus a square root.

    Warm-up is `warmup_steps`, as of every schedule. A run may so be prolonged from a checkpoint before the decay.
    Hägele et al. 2024, https://arxiv.org/abs/2405.18392

    Args:
      peak: the rate that it stays at.
      steps: how long all of it is.
      decay: the share of the steps in which it falls, above 0.
      end: the share of the peak that it falls to.
    """
    _check_share("decay", decay)
    _check_positive("decay", decay)
    _check_share("end", end)
    falling = max(round(decay * steps), 1)
    fall = lambda count: peak * (1 - (1 - end) * jnp.sqrt(jnp.clip(count / falling, 0, 1)))  # noqa: E731
    return optax.join_schedules([optax.constant_schedule(peak), fall], [max(steps - falling, 0)])


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
    """Returns a rate that stays at its peak for as long as the training loss falls.

    Args:
      peak: where it begins.
      steps: how long the run is.
      factor: what the rate is multiplied by when the loss no longer falls, between 0 and 1.
      patience: how many windows in a row without improvement that takes.
      window: steps whose mean loss is compared with the lowest so far. Steps of warm-up do not count.
      min_improvement: by how much a mean has to be lower than the lowest to count as an improvement.
      end: the share of the peak below which the rate does not fall.
    """
    if not 0 < factor < 1:
        raise ConfigError(f"factor = {factor}: must be between 0 and 1")
    _check_positive("patience", patience)
    _check_positive("window", window)
    if not 0 <= min_improvement < float("inf"):
        raise ConfigError(f"min_improvement = {min_improvement}: must be at least 0")
    _check_share("end", end)
    if window * (patience + 1) >= steps:
        raise ConfigError(
            f"window = {window}, patience = {patience}: the rate could fall after {window * (patience + 1)} steps at "
            f"the earliest, and the run has {steps} after warm-up; use fewer of either, or train longer"
        )
    scale = contrib.reduce_on_plateau(
        factor=factor,
        patience=patience,
        rtol=0.0,
        # It wants a positive number.
        atol=max(min_improvement, 1e-30),
        accumulation_size=window,
        min_scale=end,
    )
    return Plateau(optax.constant_schedule(peak), scale)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """A schedule whose rate is also lowered by the loss, which an optimizer of make_optimizer() sees to.

    Attributes:
      schedule: the rate by step, before it is lowered.
      scale: lowers finished steps; its `update` takes the loss as `value`.
    """

    schedule: optax.Schedule
    scale: optax.GradientTransformationExtraArgs

    def __call__(self, step: Any) -> Any:
        """Returns the rate of a step, before it is lowered."""
        return self.schedule(step)

    def warmed_up(self, schedule: optax.Schedule, steps: int) -> "Plateau":
        """Returns the same with another schedule that begins with steps of warm-up, whose losses do not count."""
        return Plateau(
            schedule,
            optax.conditionally_transform(self.scale, lambda step, **_: step >= steps, forward_extra_args=True),
        )


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "polynomial": polynomial,
    "exponential": exponential,
    "step": step,
    "one_cycle": one_cycle,
    "warmup_stable_decay": warmup_stable_decay,
    "plateau": plateau,
}
"""(peak rate, steps after warm-up, *, options) -> rate at each of those steps."""


def make_schedule(
    name: str,
    *,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    options: Mapping[str, Any] | None = None,
) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then a named schedule over the steps that are left.

    Args:
      name: a name of SCHEDULES, or `package.module:function`.
      learning_rate: the peak, reached at step `warmup_steps` by a schedule that begins with it.
      warmup_steps: steps of warm-up; the first has `1 / (warmup_steps + 1)` of the rate, so none is wasted at 0.
      total_steps: steps of the whole run.
      options: the schedule's keyword arguments.

    Raises:
      ConfigError: an unknown name, an option out of range, or a schedule that is longer than the run; names the key.
    """
    function = look_up(name, SCHEDULES, argument="config.optimizer.schedule")
    if warmup_steps >= total_steps:
        raise ConfigError(
            f"config.optimizer.warmup_steps = {warmup_steps}: the whole run has {total_steps} steps; "
            "use fewer, or train longer"
        )
    try:
        falling = function(learning_rate, total_steps - warmup_steps, **options or {})
    except ConfigError as error:
        raise ConfigError(f"config.optimizer.schedule_options.{error}") from error
    except TypeError as error:
        raise ConfigError(
            f"config.optimizer.schedule = {name!r}: cannot be called with a rate, a number of steps and the options "
            f"{dict(options or {})}: {error}"
        ) from error
    if not warmup_steps:
        return falling
    # To where the schedule begins, which is not the peak for each of them.
    rising = lambda count: falling(0) * (count + 1) / (warmup_steps + 1)  # noqa: E731
    joined = optax.join_schedules([rising, falling], [warmup_steps])
    return falling.warmed_up(joined, warmup_steps) if isinstance(falling, Plateau) else joined


def rate_scale(opt_state: Any) -> jax.Array:
    """Returns what a plateau left of the learning rate, float32 scalar; 1 for an optimizer of another schedule."""
    is_plateau = lambda state: isinstance(state, contrib.ReduceLROnPlateauState)  # noqa: E731
    states = [state for state in jax.tree.leaves(opt_state, is_leaf=is_plateau) if is_plateau(state)]
    return jnp.asarray(states[0].scale if states else 1.0, jnp.float32)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value}: is a share, 0 to 1")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} = {value}: must be above 0")
