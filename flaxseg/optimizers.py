"""Learning-rate schedules and optimizers by name, composed of optax."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from flaxseg.lookup import look_up


def constant(peak: float, steps: int) -> optax.Schedule:
    """Returns a rate that stays at its peak."""
    del steps
    return optax.constant_schedule(peak)


def cosine(peak: float, steps: int) -> optax.Schedule:
    """Returns a rate that falls to 0 along half a cosine (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983)."""
    return optax.cosine_decay_schedule(peak, max(steps, 1))


SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": constant,
    "cosine": cosine,
}
"""(peak rate, steps after warm-up) -> rate at each of those steps."""


def make_schedule(name: str, *, learning_rate: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then a named schedule over the steps that are left.

    Args:
      name: a name of SCHEDULES.
      learning_rate: the peak, reached at step `warmup_steps`.
      warmup_steps: steps of warm-up; the first has `learning_rate / (warmup_steps + 1)`, so none is wasted at 0.
      total_steps: steps of the whole run.

    Raises:
      ConfigError: an unknown name.
    """
    falling = look_up(name, SCHEDULES, key="config.optimizer.schedule")(learning_rate, total_steps - warmup_steps)
    if not warmup_steps:
        return falling
    rising = optax.linear_schedule(learning_rate / (warmup_steps + 1), learning_rate, warmup_steps)
    return optax.join_schedules([rising, falling], [warmup_steps])


def adamw(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Adam with decoupled weight decay of kernels (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101)."""
    return optax.adamw(schedule, weight_decay=weight_decay, mask=decay_mask)


def sgd(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Stochastic gradient descent with Nesterov momentum 0.9 and weight decay of kernels."""
    decay = optax.add_decayed_weights(weight_decay, mask=decay_mask)
    return optax.chain(decay, optax.sgd(schedule, momentum=0.9, nesterov=True))


OPTIMIZERS: dict[str, Callable[[optax.Schedule, float], optax.GradientTransformation]] = {
    "adamw": adamw,
    "sgd": sgd,
}
"""(schedule, weight decay) -> optax transformation."""


def decay_mask(params: Any) -> Any:
    """Returns which parameters decay: those of two or more axes; biases and norm scales have one and do not."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make_optimizer(
    name: str, *, schedule: optax.Schedule, weight_decay: float = 0.0, grad_clip: float = 0.0
) -> optax.GradientTransformation:
    """Returns a named optimizer that follows a schedule.

    Args:
      name: a name of OPTIMIZERS.
      schedule: learning rate by step.
      weight_decay: of kernels.
      grad_clip: the gradient is scaled down to at most this global norm (Pascanu et al. 2013,
        https://arxiv.org/abs/1211.5063); 0: left as it is.

    Raises:
      ConfigError: an unknown name.
    """
    optimizer = look_up(name, OPTIMIZERS, key="config.optimizer.name")(schedule, weight_decay)
    return optax.chain(optax.clip_by_global_norm(grad_clip), optimizer) if grad_clip else optimizer
