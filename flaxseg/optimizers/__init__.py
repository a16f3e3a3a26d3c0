"""Optimizers: learning-rate schedules, algorithms, and groups of parameters that they treat alike."""

from collections.abc import Mapping
from typing import Any

import optax

from flaxseg.errors import ConfigError
from flaxseg.optimizers.algorithms import OPTIMIZERS, decay_mask
from flaxseg.optimizers.groups import RateScales, freezing
from flaxseg.optimizers.schedules import SCHEDULES, Plateau, make_schedule, rate_scale
from flaxseg.registry import look_up

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Plateau",
    "RateScales",
    "decay_mask",
    "freezing",
    "make_optimizer",
    "make_schedule",
    "rate_scale",
]


def make_optimizer(
    name: str,
    *,
    schedule: optax.Schedule,
    weight_decay: float = 0.0,
    grad_clip: float = 0.0,
    options: Mapping[str, Any] | None = None,
    scales: RateScales | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns a named optimizer that follows a schedule.

    Args:
      name: a name of OPTIMIZERS, or `package.module:function`.
      schedule: learning rate by step, such as from make_schedule(). The rate of a Plateau also falls with the loss,
        which `update` then takes as `value`.
      weight_decay: of kernels.
      grad_clip: the gradient is scaled down to at most this global norm (Pascanu et al. 2013,
        https://arxiv.org/abs/1211.5063); 0: left as it is.
      options: the optimizer's keyword arguments.
      scales: what the rates of single parameters are multiplied by; None: all learn at one rate.

    Raises:
      ConfigError: an unknown name, an option out of range, or a function of the user's own that is no optimizer.
    """
    function = look_up(name, OPTIMIZERS, argument="config.optimizer.name")
    try:
        stages = [function(schedule, weight_decay, **options or {})]
    except ConfigError as error:
        raise ConfigError(f"config.optimizer.options.{error}") from error
    except TypeError as error:
        raise ConfigError(
            f"config.optimizer.name = {name!r}: cannot be called with a schedule, a weight decay and the options "
            f"{dict(options or {})}: {error}"
        ) from error
    if grad_clip:
        stages.insert(0, optax.clip_by_global_norm(grad_clip))
    # Both scale the finished step, as a lower learning rate would, weight decay included.
    if scales is not None:
        stages.append(scales.transformation())
    if isinstance(schedule, Plateau):
        stages.append(schedule.scale)
    return optax.with_extra_args_support(optax.chain(*stages) if len(stages) > 1 else stages[0])
