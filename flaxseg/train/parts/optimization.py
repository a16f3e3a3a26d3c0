"""What a run minimizes, and how: loss, augmentation, schedule and optimizer."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from flaxseg.augment import AugmentFn
from flaxseg.config.validate import config_key
from flaxseg.errors import ConfigError
from flaxseg.losses import LossFn, weighted_sum
from flaxseg.optimizers import LearningRateMultipliers, make_optimizer, make_schedule
from flaxseg.optimizers.groups import check_patterns
from flaxseg.train.hard_examples import hardest_examples
from flaxseg.train.parts.augmentation import build_augmentation, notify
from flaxseg.train.parts.model import ModelPart
from flaxseg.train.step import StepOptions


@dataclasses.dataclass(frozen=True)
class OptimizationPart:
    """What a run minimizes, and how.

    Attributes:
      loss_fn: the loss.
      augment_fn: the augmentation; None leaves batches as they are.
      schedule: the learning rate at each step.
      tx: the optimizer.
      multipliers: the learning-rate multipliers of parameters, which `tx` applies.
      weight_decay: the weight-decay coefficient of kernels, which `tx` applies.
      step_options: the moving average, micro-batches and further metrics of the training step.
      class_weights: one weight per class, for the losses that take class weights; None for equal weights.
    """

    loss_fn: LossFn
    augment_fn: AugmentFn | None
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    multipliers: LearningRateMultipliers
    weight_decay: float
    step_options: StepOptions
    class_weights: tuple[float, ...] | None


def build_schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Returns the learning rate at each step of a run of `total_steps`.

    A warm-up that is not shorter than the run is shortened to a tenth of it, with a notice on stderr, so that a short
    trial run needs no other change.

    Raises:
      ConfigError: an option of the schedule is out of range, or does not fit the length of the run.
    """
    settings, warmup_steps = config.optimizer, config.optimizer.warmup_steps
    if warmup_steps >= total_steps:
        warmup_steps = total_steps // 10
        notify(
            f"optimizer.warmup_steps = {settings.warmup_steps} is shortened to {warmup_steps}, a tenth of the "
            f"run's {total_steps} steps"
        )
    with config_key("optimizer", name="schedule", options="schedule_options"):
        return make_schedule(
            settings.schedule,
            learning_rate=settings.learning_rate,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            options=settings.schedule_options,
        )


def build_optimization(
    config: ConfigDict,
    model: ModelPart,
    *,
    schedule: optax.Schedule,
    class_weights: tuple[float, ...] | None = None,
) -> OptimizationPart:
    """Returns loss, augmentation and optimizer of a valid configuration, for a network.

    Args:
      config: its sections `augment`, `loss`, `loss_options` and `optimizer`, and `data.cache`, are read.
      model: the network.
      schedule: the learning rate at each step.
      class_weights: one weight per class, for the losses that take class weights; None for equal weights.

    Raises:
      ConfigError: options that do not fit the network, or a pattern that matches no parameter.
    """
    # Features are cached after the augmentation.
    caches_features = config.data.cache == "features"
    augment_fn = None if caches_features else build_augmentation(config, model.image_shape[-1])
    multipliers = _multipliers(config, model)
    settings = config.optimizer
    with config_key("", options="loss_options", weights="loss"):
        loss_fn = weighted_sum(
            config.loss, config.loss_options, class_weights=class_weights, auxiliary_weight=config.auxiliary_weight
        )
        logits = jax.ShapeDtypeStruct((1, 8, 8, model.num_classes), jnp.float32)
        jax.eval_shape(loss_fn, logits, jax.ShapeDtypeStruct(logits.shape[:3], jnp.uint8))
    hardest = hardest_examples(loss_fn, config.log.hardest) if config.log.hardest else None
    with config_key("optimizer"):
        tx = make_optimizer(
            settings.name,
            schedule=schedule,
            weight_decay=settings.weight_decay,
            grad_clip=settings.grad_clip,
            options=settings.options,
            multipliers=None if multipliers == LearningRateMultipliers() else multipliers,
            frozen=model.frozen,
        )
    return OptimizationPart(
        loss_fn=loss_fn,
        augment_fn=augment_fn,
        schedule=schedule,
        tx=tx,
        multipliers=multipliers,
        weight_decay=settings.weight_decay,
        step_options=StepOptions(
            settings.ema_decay or None, settings.accumulate_steps, hardest, settings.batch_statistics
        ),
        class_weights=class_weights,
    )


def _multipliers(config: ConfigDict, model: ModelPart) -> LearningRateMultipliers:
    """Returns the learning-rate multipliers, after checking the patterns of frozen and scaled parameters."""
    settings, params = config.optimizer, model.variables["params"]
    freeze, lr_scale = tuple(settings.freeze), tuple(map(tuple, settings.lr_scale))
    with config_key("optimizer"):
        check_patterns("freeze", freeze, params)
        check_patterns("lr_scale", [pattern for pattern, _ in lr_scale], params)
    if model.frozen and all(map(model.frozen, traverse_util.flatten_dict(params, sep="/"))):
        raise ConfigError(
            f"config.optimizer.freeze = {freeze}: covers every parameter, so nothing is left to train; freeze fewer"
        )
    if model.frozen and not model.pretrained:
        raise ConfigError(
            f"config.model.pretrained = '': the parameters that config.optimizer.freeze = {freeze} covers would keep "
            "their random initial values; give their weights, such as 'imagenet', or freeze nothing"
        )
    if settings.layer_decay == 1:
        return LearningRateMultipliers(lr_scale)
    if not model.encoder_layers:
        raise ConfigError(
            f"config.optimizer.layer_decay = {settings.layer_decay}: {model.name} has no modules below 'encoder' that "
            "learning rates could decay over; use 1, and config.optimizer.lr_scale for parts of the network"
        )
    return LearningRateMultipliers(lr_scale, settings.layer_decay, model.encoder_layers)
