"""What a run minimizes, and how: loss, augmentation, schedule and optimizer."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg.augment import AugmentFn, make_augment
from flaxseg.augment.color import ineffective_changes
from flaxseg.config.validate import config_key
from flaxseg.data.class_weights import resolve_class_weights
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ConfigError
from flaxseg.losses import LOSSES, LossFn, weighted_sum
from flaxseg.optimizers import LearningRateMultipliers, make_optimizer, make_schedule
from flaxseg.optimizers.groups import check_patterns, format_groups
from flaxseg.registry import look_up, option_names
from flaxseg.train.hard_examples import hardest_examples
from flaxseg.train.parts.model import ModelPart
from flaxseg.train.step import StepOptions
from flaxseg.train.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class OptimizationPart:
    """What a run minimizes, and how.

    Attributes:
      loss_fn: the loss.
      augment_fn: the augmentation; None leaves batches as they are.
      schedule: the learning rate at each step.
      tx: the optimizer.
      step_options: moving average, micro-batches and further metrics of the training step.
      class_weights: the weight of each class in the losses that take class weights; None if there are none.
      parameter_groups: a text table of the groups of parameters that the optimizer treats alike.
    """

    loss_fn: LossFn
    augment_fn: AugmentFn | None
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    step_options: StepOptions
    class_weights: tuple[float, ...] | None
    parameter_groups: str


def build_optimization(
    config: ConfigDict,
    model: ModelPart,
    *,
    schedule: optax.Schedule,
    class_weights: tuple[float, ...] | None = None,
) -> OptimizationPart:
    """Returns loss, augmentation and optimizer of a valid configuration, for a network.

    Raises:
      ConfigError: options that do not fit the network, or a pattern that matches no parameter.
    """
    params = model.variables["params"]
    _check_freezing(config, model)
    multipliers = _multipliers(config, model)
    loss_fn = _loss(config, model.num_classes, class_weights)
    settings = config.optimizer
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
        augment_fn=build_augmentation(config, model.image_shape[-1]),
        schedule=schedule,
        tx=tx,
        step_options=StepOptions(
            ema_decay=settings.ema_decay or None,
            accumulate_steps=settings.accumulate_steps,
            metrics_fn=hardest_examples(loss_fn, config.log.hardest) if config.log.hardest else None,
        ),
        class_weights=class_weights,
        parameter_groups=format_groups(
            params, frozen=model.frozen, multipliers=multipliers, weight_decay=settings.weight_decay
        ),
    )


def build_augmentation(config: ConfigDict, channels: int) -> AugmentFn | None:
    """Returns the augmentation of a valid configuration; None when every strength is off.

    Prints a notice for each color change that has no effect on images with this number of channels.
    """
    settings = config.augment
    for name in ineffective_changes(settings, channels=channels):
        _notify(f"augment.{name} has no effect on images with {channels} channel(s)")
    if all(tuple(value) == (1.0, 1.0) if name == "scale" else not value for name, value in settings.items()):
        return None
    with config_key("augment"):
        return make_augment(crop_size=tuple(config.data.image_size), **settings)


def build_schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Returns the learning rate at each step of a run of `total_steps`.

    A warm-up that is longer than the run is shortened to a tenth of it, with a notice on stderr, so that a short trial
    needs no second key changed.
    """
    settings, warmup_steps = config.optimizer, config.optimizer.warmup_steps
    if warmup_steps >= total_steps:
        warmup_steps = total_steps // 10
        _notify(
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


def build_class_weights(
    config: ConfigDict, train: SegmentationDataset, workdir: Workdir | None = None
) -> tuple[float, ...] | None:
    """Returns the class weights of a valid configuration; None if there are none.

    Args:
      config: its `class_weights` is a weighting by name, numbers, or "none".
      train: the training set, whose pixels are counted for a weighting.
      workdir: if it holds class weights, they are taken instead of counting pixels again, so that a resumed run keeps
        the weights that it began with.

    Raises:
      DataError: no pixel of the training set has a class, or an example cannot be read.
    """
    with config_key("", setting="class_weights"):
        return resolve_class_weights(
            config.class_weights,
            train,
            stored=workdir.class_weights if workdir else None,
            num_threads=config.data.num_threads,
        )


def _check_freezing(config: ConfigDict, model: ModelPart) -> None:
    patterns, params = tuple(config.optimizer.freeze), model.variables["params"]
    with config_key("optimizer"):
        check_patterns("freeze", patterns, params)
    paths = traverse_util.flatten_dict(params, sep="/")
    if model.frozen and all(map(model.frozen, paths)):
        raise ConfigError(
            f"config.optimizer.freeze = {patterns}: covers every parameter, so there is nothing left to train; freeze "
            "fewer"
        )
    if model.frozen and not model.pretrained:
        raise ConfigError(
            f"config.model.pretrained = '': the parameters that config.optimizer.freeze = {patterns} covers would keep "
            "their random initial values; give their weights, such as 'imagenet', or freeze nothing"
        )


def _multipliers(config: ConfigDict, model: ModelPart) -> LearningRateMultipliers:
    """Returns the learning-rate multipliers of a configuration."""
    lr_scale = tuple(map(tuple, config.optimizer.lr_scale))
    with config_key("optimizer"):
        check_patterns("lr_scale", [pattern for pattern, _ in lr_scale], model.variables["params"])
    layer_decay = config.optimizer.layer_decay
    if layer_decay == 1:
        return LearningRateMultipliers(lr_scale)
    layers = model.encoder_layers()
    if not layers:
        raise ConfigError(
            f"config.optimizer.layer_decay = {layer_decay}: {model.name} has no modules below 'encoder' that learning "
            "rates could decay over; use 1, and config.optimizer.lr_scale for parts of the network"
        )
    return LearningRateMultipliers(lr_scale, layer_decay, layers)


def _loss(config: ConfigDict, num_classes: int, class_weights: tuple[float, ...] | None) -> LossFn:
    """Returns the loss of a configuration, checked on shapes alone."""
    options: dict[str, dict[str, Any]] = {name: dict(given) for name, given in config.loss_options.items()}
    if class_weights is not None:
        weighted = _losses_with_class_weights(config)
        _check_class_weights(config, class_weights, weighted, num_classes)
        for name in weighted:
            options[name] = {"class_weights": class_weights, **options.get(name, {})}
    logits, label = (1, 8, 8, num_classes), (1, 8, 8)
    with config_key("", options="loss_options", weights="loss", name="loss"):
        loss_fn = weighted_sum(config.loss, options, auxiliary_weight=config.auxiliary_weight)
        jax.eval_shape(loss_fn, jax.ShapeDtypeStruct(logits, jnp.float32), jax.ShapeDtypeStruct(label, jnp.uint8))
    return loss_fn


def _losses_with_class_weights(config: ConfigDict) -> list[str]:
    used = [name for name, weight in config.loss.items() if weight]
    return [name for name in used if "class_weights" in option_names(look_up(name, LOSSES))]


def _check_class_weights(
    config: ConfigDict, class_weights: tuple[float, ...], weighted: Sequence[str], num_classes: int
) -> None:
    if len(class_weights) != num_classes:
        raise ConfigError(
            f"config.class_weights = {class_weights}: {len(class_weights)} weights for {num_classes} classes; give one "
            "for each class"
        )
    if not weighted:
        raise ConfigError(
            f"config.class_weights = {config.class_weights!r}: none of the losses {', '.join(config.loss)} takes class "
            "weights; use 'none', or a loss that takes them, such as cross_entropy"
        )


def _notify(message: str) -> None:
    if jax.process_index() == 0:
        tqdm.write(message, file=sys.stderr)
