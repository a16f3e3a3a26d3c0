"""Learning-rate schedules by name, composed of optax schedules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxseg.errors import FRACTION, NON_NEGATIVE, POSITIVE, ArgumentError, Range, check_integer
from flaxseg.optimizers.plateau import Plateau, plateau
from flaxseg.registry import look_up

POSITIVE_FRACTION = Range(0, 1, above=True)


def constant(peak: float, steps: int) -> optax.Schedule:
    """Returns a constant learning rate.

    Args:
      peak: the learning rate.
      steps: the number of steps; has no effect.
    """
    del steps
    return optax.constant_schedule(peak)


def cosine(peak: float, steps: int, *, end: float = 0.0) -> optax.Schedule:
    """Returns cosine decay (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983).

    Args:
      peak: the initial learning rate.
      steps: the number of steps of the decay.
      end: the final learning rate as a fraction of the peak, from 0 to 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    FRACTION.check("end", end)
    return optax.cosine_decay_schedule(peak, max(steps, 1), alpha=end)


def polynomial(peak: float, steps: int, *, power: float = 0.9, end: float = 0.0) -> optax.Schedule:
    """Returns polynomial decay, proportional to (1 - step / steps)^power: the "poly" policy of the DeepLab papers.

    Chen et al. 2017, https://arxiv.org/abs/1606.00915, section 4.1

    Args:
      peak: the initial learning rate.
      steps: the number of steps of the decay.
      power: the exponent, above 0; 1 is linear decay.
      end: the final learning rate as a fraction of the peak, from 0 to 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    POSITIVE.check("power", power)
    FRACTION.check("end", end)
    return optax.polynomial_schedule(peak, end * peak, power, max(steps, 1))


def exponential(peak: float, steps: int, *, end: float = 0.01) -> optax.Schedule:
    """Returns exponential decay: each step multiplies the learning rate by the same factor.

    Args:
      peak: the initial learning rate.
      steps: the number of steps of the decay.
      end: the final learning rate as a fraction of the peak, above 0 and at most 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    POSITIVE_FRACTION.check("end", end)
    return optax.exponential_decay(peak, max(steps, 1), end)


def step(peak: float, steps: int, *, boundaries: Sequence[float] = (0.6, 0.8), factor: float = 0.1) -> optax.Schedule:
    """Returns step decay: the learning rate is multiplied by a factor at each of several steps.

    Args:
      peak: the initial learning rate.
      steps: the number of steps of the run.
      boundaries: when the learning rate drops, as increasing fractions of `steps` between 0 and 1.
      factor: the factor of each drop, from 0 to 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    FRACTION.check("factor", factor)
    if list(boundaries) != sorted(set(boundaries)) or not all(0 < boundary < 1 for boundary in boundaries):
        raise ArgumentError(
            "boundaries", tuple(boundaries), "must be increasing fractions of the run, each above 0 and below 1"
        )
    # In a short run, two boundaries may round to the same step.
    at = [round(boundary * steps) for boundary in boundaries]
    return optax.piecewise_constant_schedule(peak, {step: factor ** at.count(step) for step in at})


def one_cycle(
    peak: float, steps: int, *, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> optax.Schedule:
    """Returns the one-cycle policy: the learning rate rises to its peak, then decays to nearly 0, both as cosines.

    Smith & Topin 2018, https://arxiv.org/abs/1708.07120. As in PyTorch's OneCycleLR, the peak is the last of the
    `pct_start * steps` rising steps, and the last step, `steps - 1`, has the final learning rate. The peak is rounded
    to the nearest step after the first, so that runs of a few steps reach it too.

    Args:
      peak: the highest learning rate.
      steps: the number of steps of the cycle.
      pct_start: the fraction of the steps in which the learning rate rises, from 0 to 1.
      div_factor: the initial learning rate is the peak divided by this; above 0.
      final_div_factor: the final learning rate is the initial one divided by this; above 0.

    Raises:
      ArgumentError: an option is out of range.
    """
    FRACTION.check("pct_start", pct_start)
    POSITIVE.check("div_factor", div_factor)
    POSITIVE.check("final_div_factor", final_div_factor)
    start, rising = peak / div_factor, max(round(pct_start * steps - 1), 1)
    rise = lambda count: start + (peak - start) * (1 - jnp.cos(jnp.pi * jnp.minimum(count / rising, 1))) / 2  # noqa: E731
    decay = optax.cosine_decay_schedule(peak, max(steps - 1 - rising, 1), alpha=1 / (div_factor * final_div_factor))
    return optax.join_schedules([rise, decay], [rising])


def warmup_stable_decay(peak: float, steps: int, *, decay: float = 0.2, end: float = 0.0) -> optax.Schedule:
    """Returns a constant learning rate followed by a decay proportional to 1 minus a square root.

    A run can be extended from a checkpoint of its constant phase. The warm-up is the `warmup_steps` that precede
    every schedule. Hägele et al. 2024, https://arxiv.org/abs/2405.18392

    Args:
      peak: the constant learning rate.
      steps: the number of steps of both phases.
      decay: the fraction of the steps in which the learning rate decays, above 0 and at most 1.
      end: the final learning rate as a fraction of the peak, from 0 to 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    POSITIVE_FRACTION.check("decay", decay)
    FRACTION.check("end", end)
    decaying = max(round(decay * steps), 1)
    fall = lambda count: peak * (1 - (1 - end) * jnp.sqrt(jnp.clip(count / decaying, 0, 1)))  # noqa: E731
    return optax.join_schedules([optax.constant_schedule(peak), fall], [max(steps - decaying, 0)])


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
"""Functions (peak learning rate, steps after warm-up, *, options) -> learning rate at each step after warm-up."""

RISING = frozenset({"one_cycle"})
"""Names of schedules that begin with a rise to the peak, so that runs have no warm-up before it."""


def make_schedule(
    name: str,
    *,
    learning_rate: float | jax.Array,
    warmup_steps: int,
    total_steps: int,
    options: Mapping[str, Any] | None = None,
) -> optax.Schedule:
    """Returns the learning rate at each step: linear warm-up, then a schedule by name over the remaining steps.

    Args:
      name: a name in `SCHEDULES`, or `package.module:function` for a function with the same signature as theirs.
      learning_rate: the peak learning rate, at least 0. Schedules that start at the peak reach it at step
        `warmup_steps`. It may also be a scalar array, such as an argument of a jitted function.
      warmup_steps: the number of warm-up steps, below `total_steps`. The first step has `1 / (warmup_steps + 1)` of
        the learning rate instead of 0, so that it is not wasted.
      total_steps: the number of steps of the run, at least 1.
      options: keyword arguments of the schedule's function.

    Raises:
      ArgumentError: an unknown name, an option out of range, or a warm-up that leaves no steps.
    """
    function = look_up(name, SCHEDULES)
    if not isinstance(learning_rate, jax.Array):
        NON_NEGATIVE.check("learning_rate", learning_rate)
    check_integer("total_steps", total_steps, 1)
    check_integer("warmup_steps", warmup_steps, 0)
    if warmup_steps >= total_steps:
        raise ArgumentError(
            "warmup_steps",
            warmup_steps,
            f"must be below the {total_steps} steps of the whole run; use fewer, or train longer",
        )
    try:
        schedule = function(learning_rate, total_steps - warmup_steps, **options or {})
    except ArgumentError as error:
        raise error.under("options") from error
    except TypeError as error:
        raise ArgumentError(
            "name",
            name,
            f"cannot be called with a learning rate, a number of steps and the options {dict(options or {})}: {error}",
        ) from error
    if not warmup_steps:
        return schedule
    # Warm-up ends at the schedule's initial learning rate, which is not always the peak.
    warmup = lambda count: schedule(0) * (count + 1) / (warmup_steps + 1)  # noqa: E731
    joined = optax.join_schedules([warmup, schedule], [warmup_steps])
    return schedule.with_warmup(joined, warmup_steps) if isinstance(schedule, Plateau) else joined
