"""Optimizers by name, composed of optax transformations. Weight decay applies to kernels only; see `decay_mask`."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib

from flaxseg.errors import DECAY_RATE, POSITIVE


def sgd(
    schedule: optax.Schedule, weight_decay: float, *, momentum: float = 0.9, nesterov: bool = True
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum; weight decay is added to the gradient.

    Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels.
      momentum: the decay rate of the momentum, from 0 (no momentum) to below 1.
      nesterov: use Nesterov momentum.

    Raises:
      ArgumentError: an option is out of range.
    """
    DECAY_RATE.check("momentum", momentum)
    direction = optax.trace(momentum, nesterov) if momentum else optax.identity()
    return optax.chain(_weight_decay(weight_decay), direction, optax.scale_by_learning_rate(schedule))


def rmsprop(
    schedule: optax.Schedule,
    weight_decay: float,
    *,
    decay: float = 0.9,
    momentum: float = 0.9,
    eps: float = 1e-3,
) -> optax.GradientTransformation:
    """RMSProp with momentum; weight decay is added to the gradient.

    The defaults are those that MobileNets and EfficientNets were trained with (Tan & Le 2019,
    https://arxiv.org/abs/1905.11946, section 5.2).

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels.
      decay: the decay rate of the average of squared gradients, from 0 to below 1.
      momentum: the decay rate of the momentum, from 0 to below 1.
      eps: a positive constant added to the average of squared gradients, inside the square root.

    Raises:
      ArgumentError: an option is out of range.
    """
    DECAY_RATE.check("decay", decay)
    DECAY_RATE.check("momentum", momentum)
    POSITIVE.check("eps", eps)
    scale = optax.scale_by_rms(decay=decay, eps=eps, initial_scale=1.0, eps_in_sqrt=True)
    return optax.chain(
        _weight_decay(weight_decay), scale, optax.trace(momentum), optax.scale_by_learning_rate(schedule)
    )


def adam(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam; weight decay is added to the gradient (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980).

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels.
      b1: the decay rate of the average of gradients, from 0 to below 1.
      b2: the decay rate of the average of squared gradients, from 0 to below 1.
      eps: a positive constant added to the denominator.

    Raises:
      ArgumentError: an option is out of range.
    """
    _check_moments(b1, b2, eps)
    direction = optax.scale_by_adam(b1, b2, eps)
    return optax.chain(_weight_decay(weight_decay), direction, optax.scale_by_learning_rate(schedule))


def adamw(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101).

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels; multiplied by the learning rate.
      b1: the decay rate of the average of gradients, from 0 to below 1.
      b2: the decay rate of the average of squared gradients, from 0 to below 1.
      eps: a positive constant added to the denominator.

    Raises:
      ArgumentError: an option is out of range.
    """
    _check_moments(b1, b2, eps)
    return _with_decoupled_weight_decay(optax.scale_by_adam(b1, b2, eps), schedule, weight_decay)


def lamb(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6
) -> optax.GradientTransformation:
    """AdamW with layer-wise trust ratios, for large batches (You et al. 2020, https://arxiv.org/abs/1904.00962).

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels, decoupled from the gradient.
      b1: the decay rate of the average of gradients, from 0 to below 1.
      b2: the decay rate of the average of squared gradients, from 0 to below 1.
      eps: a positive constant added to the denominator.

    Raises:
      ArgumentError: an option is out of range.
    """
    _check_moments(b1, b2, eps)
    return optax.lamb(schedule, b1, b2, eps, weight_decay=weight_decay, mask=decay_mask)


def lion(
    schedule: optax.Schedule, weight_decay: float, *, b1: float = 0.9, b2: float = 0.99
) -> optax.GradientTransformation:
    """Lion: the sign of an interpolated momentum (Chen et al. 2023, https://arxiv.org/abs/2302.06675).

    The authors recommend a learning rate 3 to 10 times smaller than AdamW's, and a weight decay larger by the same
    factor.

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels, decoupled from the gradient.
      b1: the weight of the momentum in its interpolation with the gradient, from 0 to below 1.
      b2: the decay rate of the momentum, from 0 to below 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    DECAY_RATE.check("b1", b1)
    DECAY_RATE.check("b2", b2)
    return _with_decoupled_weight_decay(optax.scale_by_lion(b1, b2), schedule, weight_decay)


def adafactor(
    schedule: optax.Schedule,
    weight_decay: float,
    *,
    decay_rate: float = 0.8,
    clipping_threshold: float = 1.0,
    scale_parameter: bool = False,
) -> optax.GradientTransformation:
    """Adafactor: Adam with factored second moments and no momentum; weight decay is decoupled.

    Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels, decoupled from the gradient.
      decay_rate: the exponent of the second moments' decay, above 0; at step t their decay rate is 1 - t^-decay_rate.
      clipping_threshold: the largest root mean square of a parameter's update before the learning rate, above 0.
      scale_parameter: multiply each update by the root mean square of its parameter.

    Raises:
      ArgumentError: an option is out of range.
    """
    POSITIVE.check("decay_rate", decay_rate)
    POSITIVE.check("clipping_threshold", clipping_threshold)
    # Without a learning rate optax.adafactor returns the descent direction, and _with_decoupled_weight_decay expects
    # the ascent direction.
    descent = optax.adafactor(
        None,
        decay_rate=decay_rate,
        clipping_threshold=clipping_threshold,
        multiply_by_parameter_scale=scale_parameter,
    )
    return _with_decoupled_weight_decay(optax.chain(descent, optax.scale(-1.0)), schedule, weight_decay)


def muon(
    schedule: optax.Schedule, weight_decay: float, *, momentum: float = 0.95, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
    """Muon: orthogonalized momentum for kernels; Adam with Nesterov momentum for all other parameters.

    Depthwise kernels, biases and normalization parameters are optimized by Adam. A convolution kernel is reshaped to a
    matrix of its inputs by its outputs. Updates are scaled to the root mean square of AdamW's, so that AdamW's learning
    rates apply. Weight decay is decoupled. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, and
    Liu et al. 2025, https://arxiv.org/abs/2502.16982

    Args:
      schedule: the learning rate at each step.
      weight_decay: the weight-decay coefficient of kernels, decoupled from the gradient.
      momentum: the decay rate of the momentum of kernels, from 0 to below 1.
      b1: the decay rate of Adam's average of gradients, from 0 to below 1.
      b2: the decay rate of Adam's average of squared gradients, from 0 to below 1.

    Raises:
      ArgumentError: an option is out of range.
    """
    DECAY_RATE.check("momentum", momentum)
    DECAY_RATE.check("b1", b1)
    DECAY_RATE.check("b2", b2)
    descent = contrib.muon(
        1.0,
        beta=momentum,
        adam_b1=b1,
        adam_b2=b2,
        muon_weight_dimension_numbers=_matrix_dimensions,
        consistent_rms=0.2,
    )
    return _with_decoupled_weight_decay(optax.chain(descent, optax.scale(-1.0)), schedule, weight_decay)


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
"""Functions (schedule, weight_decay, *, options) -> optax transformation."""


def decay_mask(params: Any) -> Any:
    """Returns a tree of bools: which parameters have weight decay.

    Parameters of two or more dimensions (kernels) do; biases and the scales of normalization layers have one
    dimension and do not.
    """
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _weight_decay(coefficient: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(coefficient, mask=decay_mask)


def _with_decoupled_weight_decay(
    direction: optax.GradientTransformation, schedule: optax.Schedule, weight_decay: float
) -> optax.GradientTransformation:
    return optax.chain(direction, _weight_decay(weight_decay), optax.scale_by_learning_rate(schedule))


def _check_moments(b1: float, b2: float, eps: float) -> None:
    DECAY_RATE.check("b1", b1)
    DECAY_RATE.check("b2", b2)
    POSITIVE.check("eps", eps)


def _matrix_dimensions(params: Any) -> Any:
    """Returns how Muon reshapes each kernel to a matrix, and None for parameters that Adam optimizes."""

    def dimensions(p: Any) -> contrib.MuonDimensionNumbers | None:
        is_matrix = p.ndim > 1 and p.shape[-2] > 1
        return contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if is_matrix else None

    return jax.tree.map(dimensions, params)
