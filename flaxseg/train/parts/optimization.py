"""What a run minimizes, and how: loss, augmentation, schedule and optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from flaxseg.augment import AugmentFn
from flaxseg.config.validate import config_key
from flaxseg.errors import ConfigError
from flaxseg.losses import LossFn, weighted_sum
from flaxseg.models.protocol import SegmentationModel
from flaxseg.optimizers import LearningRateMultipliers, make_optimizer, make_schedule
from flaxseg.optimizers.groups import check_patterns
from flaxseg.optimizers.schedules import RISING
from flaxseg.train.hard_examples import hardest_examples
from flaxseg.train.parts.augmentation import build_augmentation
from flaxseg.train.parts.model import ModelPart
from flaxseg.train.step import MetricsFn, StepOptions, TrainState, train_step
from flaxseg.train.step_metrics import TrainMetrics


class Hyperparameters(NamedTuple):
    """Numbers that may be arguments of a training program instead of constants, so that several runs can share it."""

    learning_rate: float | jax.Array | None = None
    """The peak learning rate; None for that of the configuration."""
    loss_weights: Mapping[str, float | jax.Array] | None = None
    """The weight of each loss, 0 for a loss that only other runs have; None for those of the configuration."""


CONSTANTS = Hyperparameters()
"""All hyperparameters are those of the configuration, as constants of the program."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Makes what follows from the hyperparameters of a run, by functions that can be traced; and its constants.

    Attributes:
      schedule: (learning rate) -> learning rate at each step.
      optimizer: (schedule) -> optimizer.
      loss: (weight of each loss) -> loss.
      metrics: (loss) -> further metrics of the training step, or None.
      multipliers: the learning-rate multipliers of parameters, which the optimizer applies.
      weight_decay: the weight-decay coefficient of kernels, which the optimizer applies.
    """

    schedule: Callable[[Any], optax.Schedule]
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation]
    loss: Callable[[Mapping[str, Any]], LossFn]
    metrics: Callable[[LossFn], MetricsFn | None]
    multipliers: LearningRateMultipliers
    weight_decay: float


@dataclasses.dataclass(frozen=True)
class OptimizationPart:
    """What a run minimizes, and how.

    Attributes:
      loss_fn: the loss.
      augment_fn: the augmentation; None leaves batches as they are.
      schedule: the learning rate at each step.
      tx: the optimizer.
      step_options: the moving average, micro-batches and further metrics of the training step.
      class_weights: one weight per class, for the losses that take class weights; None for equal weights.
      recipe: makes the loss, the schedule, the optimizer and the metrics.
      arguments: the hyperparameters of the run that are arguments of its training program; see `with_arguments`.
    """

    loss_fn: LossFn
    augment_fn: AugmentFn | None
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    step_options: StepOptions
    class_weights: tuple[float, ...] | None
    recipe: Recipe
    arguments: Hyperparameters = CONSTANTS

    def of(self, hyperparameters: Hyperparameters) -> "OptimizationPart":
        """Returns the same part with other hyperparameters, which may be traced.

        Raises:
          ConfigError: a loss does not fit the network, or the class weights.
        """
        rate, weights = hyperparameters
        changed: dict[str, Any] = {}
        if rate is not None:
            schedule = self.recipe.schedule(rate)
            changed |= {"schedule": schedule, "tx": self.recipe.optimizer(schedule)}
        if weights is not None:
            loss_fn = self.recipe.loss(weights)
            options = dataclasses.replace(self.step_options, metrics_fn=self.recipe.metrics(loss_fn))
            changed |= {"loss_fn": loss_fn, "step_options": options}
        return dataclasses.replace(self, **changed)

    def with_arguments(self, hyperparameters: Hyperparameters) -> "OptimizationPart":
        """Returns the same part with other hyperparameters, which are arguments of the training program.

        Raises:
          ConfigError: see `of`.
        """
        return dataclasses.replace(self.of(hyperparameters), arguments=hyperparameters)

    def step_of(self, model: SegmentationModel) -> Callable[..., tuple[TrainState, TrainMetrics]]:
        """Returns the training step of a network, (state, batch, key) -> (state, metrics); see `train_step`."""
        return functools.partial(
            train_step,
            model=model,
            loss_fn=self.loss_fn,
            tx=self.tx,
            augment_fn=self.augment_fn,
            options=self.step_options,
        )


def warmup_of(settings: ConfigDict, total_steps: int) -> int:
    """Returns the steps of warm-up of a run: those of the section `optimizer`, a tenth of the run, or none.

    A warm-up of more than half of the run is shortened, so that a short trial run needs no other change. A schedule
    that begins with a rise has no warm-up, which would only reach the low rate that it begins at.
    """
    if settings.schedule in RISING:
        return 0
    return total_steps // 10 if 2 * settings.warmup_steps > total_steps else int(settings.warmup_steps)


def schedule_maker(config: ConfigDict, total_steps: int) -> Callable[[float | jax.Array], optax.Schedule]:
    """Returns the function from a peak learning rate to the learning rate at each step of a run of `total_steps`.

    The function raises ConfigError where an option of the schedule is out of range, or does not fit the length of the
    run.
    """
    settings, warmup_steps = config.optimizer, warmup_of(config.optimizer, total_steps)

    def schedule(learning_rate: float | jax.Array) -> optax.Schedule:
        with config_key("optimizer", name="schedule", options="schedule_options"):
            return make_schedule(
                settings.schedule,
                learning_rate=learning_rate,
                warmup_steps=warmup_steps,
                total_steps=total_steps,
                options=settings.schedule_options,
            )

    return schedule


def build_optimization(
    config: ConfigDict,
    model: ModelPart,
    *,
    make_schedule: Callable[[float | jax.Array], optax.Schedule],
    class_weights: tuple[float, ...] | None = None,
) -> OptimizationPart:
    """Returns loss, augmentation and optimizer of a valid configuration, for a network.

    Args:
      config: its sections `augment`, `loss`, `loss_options` and `optimizer`, and `data.cache`, are read.
      model: the network.
      make_schedule: the function from a peak learning rate to the learning rate at each step.
      class_weights: one weight per class, for the losses that take class weights; None for equal weights.

    Raises:
      ConfigError: options that do not fit the network, or a pattern that matches no parameter.
    """
    # Features are cached after the augmentation.
    caches_features = config.data.cache == "features"
    augment_fn = None if caches_features else build_augmentation(config, model.image_shape[-1])
    multipliers = _multipliers(config, model)
    settings = config.optimizer
    count = config.log.hardest
    recipe = Recipe(
        schedule=make_schedule,
        optimizer=functools.partial(_make_optimizer, config, model, multipliers),
        loss=functools.partial(_make_loss, config, model.num_classes, class_weights),
        metrics=lambda loss_fn: hardest_examples(loss_fn, count) if count else None,
        multipliers=multipliers,
        weight_decay=settings.weight_decay,
    )
    loss_fn, schedule = recipe.loss(config.loss), recipe.schedule(settings.learning_rate)
    return OptimizationPart(
        loss_fn=loss_fn,
        augment_fn=augment_fn,
        schedule=schedule,
        tx=recipe.optimizer(schedule),
        step_options=StepOptions(
            settings.ema_decay or None, settings.accumulate_steps, recipe.metrics(loss_fn), settings.batch_statistics
        ),
        class_weights=class_weights,
        recipe=recipe,
    )


def _make_loss(
    config: ConfigDict, num_classes: int, class_weights: tuple[float, ...] | None, weights: Mapping[str, Any]
) -> LossFn:
    with config_key("", options="loss_options", weights="loss"):
        loss_fn = weighted_sum(
            weights, config.loss_options, class_weights=class_weights, auxiliary_weight=config.auxiliary_weight
        )
        logits = jax.ShapeDtypeStruct((1, 8, 8, num_classes), jnp.float32)
        jax.eval_shape(loss_fn, logits, jax.ShapeDtypeStruct(logits.shape[:3], jnp.uint8))
    return loss_fn


def _make_optimizer(
    config: ConfigDict, model: ModelPart, multipliers: LearningRateMultipliers, schedule: optax.Schedule
) -> optax.GradientTransformation:
    settings = config.optimizer
    with config_key("optimizer"):
        return make_optimizer(
            settings.name,
            schedule=schedule,
            weight_decay=settings.weight_decay,
            grad_clip=settings.grad_clip,
            options=settings.options,
            multipliers=None if multipliers == LearningRateMultipliers() else multipliers,
            frozen=model.frozen,
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
