"""Optimizers by name, composed of optax. Weight decay is of kernels alone: see decay_mask()."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib

from flaxseg.errors import ConfigError


def sgd(
    schedule: optax.Schedule, weight_decay: float, *, momentum: float = 0.9, nesterov: bool = True
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum; weight decay is added to the gradient.

    Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html
    """
    _check_decay_rates(momentum=momentum)
    direction = optax.trace(momentum, nesterov) if momentum else optax.identity()
    return optax.chain(_decay(weight_decay), direction, optax.scale_by_learning_rate(schedule))


def rmsprop(
    schedule: optax.Schedule,
    weight_decay: float,
    *,
    decay: float = 0.9,
    momentum: float = 0.9,
    eps: float = 1e-3,
) -> optax.GradientTransformation:
    """Gradients over their root mean square, with momentum; weight decay is added to the gradient.

    The defaults are those that MobileNets and EfficientNets were trained with (Tan & Le 2019,
    https://arxiv.org/abs/1905.11946, section 5.2).
    """
    _check_decay_rates(decay=decay, momentum=momentum)
    _check_positive("eps", eps)
    scale = optax.scale_by_rms(decay=decay, eps=eps, initial_scale=1.0, eps_in_sqrt=True)
    return optax.chain(_decay(weight_decay), scale, optax.trace(momentum), optax.scale_by_learning_rate(schedule))


def adam(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam; weight decay is added to the gradient (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980)."""
    _check_decay_rates(b1=b1, b2=b2)
    _check_positive("eps", eps)
    direction = optax.scale_by_adam(b1, b2, eps)
    return optax.chain(_decay(weight_decay), direction, optax.scale_by_learning_rate(schedule))


def adamw(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101)."""
    _check_decay_rates(b1=b1, b2=b2)
    _check_positive("eps", eps)
    return _decoupled(optax.scale_by_adam(b1, b2, eps), schedule, weight_decay)


def lamb(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Adam whose steps are as large as the layer's weights ask for (You et al. 2020, https://arxiv.org/abs/1904.00962)."""
    _check_decay_rates(b1=b1, b2=b2)
    _check_positive("eps", eps)
    return optax.lamb(schedule, b1, b2, eps, weight_decay=weight_decay, mask=decay_mask)


def lion(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.99
) -> optax.GradientTransformation:
    """Signs of an interpolated momentum; wants a third to a tenth of AdamW's rate and as much more weight decay.

    Chen et al. 2023, https://arxiv.org/abs/2302.06675
    """
    _check_decay_rates(b1=b1, b2=b2)
    return _decoupled(optax.scale_by_lion(b1, b2), schedule, weight_decay)


def adafactor(
    schedule: optax.Schedule,
    weight_decay: float,
    *,
    decay_rate: float = 0.8,
    clipping_threshold: float = 1.0,
    scale_parameter: bool = False,
) -> optax.GradientTransformation:
    """Adam without momentum, its second moments kept as sums of rows and columns (Shazeer & Stern 2018).

    https://arxiv.org/abs/1804.04235. Weight decay is decoupled, as of adamw().

    Args:
      schedule: learning rate by step.
      weight_decay: of kernels.
      decay_rate: the average of squares at step t forgets with t^-decay_rate.
      clipping_threshold: largest root mean square of a parameter's step, before the rate.
      scale_parameter: steps are relative to a parameter's own size.
    """
    _check_positive("decay_rate", decay_rate)
    _check_positive("clipping_threshold", clipping_threshold)
    # Without a rate of its own it gives descent; the others here give ascent up to their rate.
    descent = optax.adafactor(
        None,
        decay_rate=decay_rate,
        clipping_threshold=clipping_threshold,
        multiply_by_parameter_scale=scale_parameter,
    )
    return _decoupled(optax.chain(descent, optax.scale(-1.0)), schedule, weight_decay)


def muon(
    schedule: optax.Schedule, weight_decay: float, *, momentum: float = 0.95, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
    """Momentum made orthogonal, for kernels; for depthwise kernels and everything else AdamW with Nesterov momentum.

    Steps are scaled to the size that AdamW's have, so that its learning rates serve. A convolution's kernel is taken
    as a matrix of its inputs by its outputs. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, and
    Liu et al. 2025, https://arxiv.org/abs/2502.16982

    Args:
      schedule: learning rate by step.
      weight_decay: of kernels, decoupled.
      momentum: of the kernels' steps.
      b1: of AdamW.
      b2: of AdamW.
    """
    _check_decay_rates(momentum=momentum, b1=b1, b2=b2)
    descent = contrib.muon(
        1.0,
        beta=momentum,
        adam_b1=b1,
        adam_b2=b2,
        muon_weight_dimension_numbers=_matrices,
        consistent_rms=0.2,
    )
    return _decoupled(optax.chain(descent, optax.scale(-1.0)), schedule, weight_decay)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "lamb": lamb,
    "lion": lion,
    "adafactor": adafactor,
    "muon": muon,
}
"""(schedule, weight decay, *, options) -> optax transformation."""


def decay_mask(params: Any) -> Any:
    """Returns which parameters decay: those of two or more axes; biases and norm scales have one and do not."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _decay(weight_decay: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay, mask=decay_mask)


def _decoupled(
    direction: optax.GradientTransformation, schedule: optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    return optax.chain(direction, _decay(weight_decay), optax.scale_by_learning_rate(schedule))


def _check_decay_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ConfigError(f"{name} = {rate}: must be at least 0 and below 1")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} = {value}: must be above 0")


def _matrices(params: Any) -> Any:
    """Returns how Muon makes a matrix of each kernel; None for what is no matrix."""

    def axes(p: Any) -> contrib.MuonDimensionNumbers | None:
        is_matrix = p.ndim > 1 and p.shape[-2] > 1
        return contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if is_matrix else None

    return jax.tree.map(axes, params)
