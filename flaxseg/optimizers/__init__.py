"""Optimizers: algorithms, learning-rate schedules, learning-rate multipliers, and frozen parameters."""

from collections.abc import Mapping
from typing import Any

import optax

from flaxseg.errors import NON_NEGATIVE, ArgumentError
from flaxseg.keywords import arguments_checked
from flaxseg.optimizers.algorithms import OPTIMIZERS, decay_mask
from flaxseg.optimizers.groups import IsFrozen, LearningRateMultipliers, freezing, with_frozen_parameters
from flaxseg.optimizers.plateau import Plateau, plateau_multiplier
from flaxseg.optimizers.schedules import SCHEDULES, make_schedule
from flaxseg.registry import look_up

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "IsFrozen",
    "LearningRateMultipliers",
    "Plateau",
    "decay_mask",
    "freezing",
    "make_optimizer",
    "make_schedule",
    "plateau_multiplier",
    "with_frozen_parameters",
]


_RATE = "use schedule, the learning rate at each step, as in schedule=make_schedule(...) or schedule=lambda step: 1e-3"

_ELSEWHERE = {
    "lr": _RATE,
    "learning_rate": _RATE,
    "wd": "use weight_decay",
    "momentum": "use options, as in options={'momentum': 0.9}",
    "betas": "use options, as in options={'b1': 0.9, 'b2': 0.999}",
    "eps": "use options, as in options={'eps': 1e-8}",
    "clip_norm": "use grad_clip",
    "params": "leave it out: create_train_state initializes the optimizer for the parameters",
}
"""What to do about arguments of optimizers elsewhere."""


@arguments_checked(_ELSEWHERE)
def make_optimizer(
    name: str,
    *,
    schedule: optax.Schedule,
    weight_decay: float = 0.0,
    grad_clip: float = 0.0,
    options: Mapping[str, Any] | None = None,
    multipliers: LearningRateMultipliers | None = None,
    frozen: IsFrozen | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer by name, as an optax transformation.

    Args:
      name: a name in `OPTIMIZERS`, or `package.module:function` for a function with the same signature as theirs.
      schedule: the learning rate at each step, such as `make_schedule` returns. With a `Plateau`, `update` also needs
        the training loss as the keyword argument `value`.
      weight_decay: the weight-decay coefficient, applied to kernels only; see `decay_mask`.
      grad_clip: the largest global norm of the gradient; larger gradients are scaled down to it (Pascanu et al. 2013,
        https://arxiv.org/abs/1211.5063). 0 disables clipping.
      options: keyword arguments of the optimizer's function.
      multipliers: learning-rate multipliers by parameter path; None applies one learning rate to all parameters.
      frozen: `frozen(path)` returns whether the parameter at that path is frozen, as `freezing` makes it; see
        `with_frozen_parameters`. None trains all parameters.

    Raises:
      ArgumentError: an unknown name or argument, an option out of range, or a user's function that is not an optimizer.
    """
    NON_NEGATIVE.check("weight_decay", weight_decay)
    NON_NEGATIVE.check("grad_clip", grad_clip)
    function = look_up(name, OPTIMIZERS)
    try:
        stages = [function(schedule, weight_decay, **options or {})]
    except ArgumentError as error:
        raise error.under("options") from error
    except TypeError as error:
        raise ArgumentError(
            "name",
            name,
            f"cannot be called with a schedule, a weight decay and the options {dict(options or {})}: {error}",
        ) from error
    if grad_clip:
        stages.insert(0, optax.clip_by_global_norm(grad_clip))
    # These two come last because they scale the whole step, weight decay included, as a lower learning rate would.
    if multipliers is not None:
        stages.append(multipliers.transformation())
    if isinstance(schedule, Plateau):
        stages.append(schedule.transformation)
    tx = optax.with_extra_args_support(optax.chain(*stages) if len(stages) > 1 else stages[0])
    return tx if frozen is None else with_frozen_parameters(tx, frozen)
