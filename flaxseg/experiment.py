"""The parts of a run: what a configuration names, looked up, checked and put together."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flaxseg import augment, losses, optimizers, sharding
from flaxseg.data import DATASETS
from flaxseg.data.batch import SegmentationDataset
from flaxseg.data.pipeline import eval_batches, train_batches
from flaxseg.errors import ConfigError
from flaxseg.lookup import look_up, option_names
from flaxseg.models import MODELS
from flaxseg.train_step import create_train_state, predict_logits


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts that a configuration names, ready to run."""

    train_data: SegmentationDataset
    eval_data: SegmentationDataset
    train_batches: Any
    """[n] is the batch of step n on the host."""
    eval_batches: Any
    image_shape: tuple[int, ...]
    """[B, H, W, C] of the pictures that the network is trained on, over all processes."""
    model: nn.Module
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    loss_fn: losses.LossFn
    augment_fn: augment.AugmentFn | None
    ema_decay: float | None
    mesh: Mesh
    total_steps: int
    eval_every: int
    checkpoint_every: int


def compose(config: ConfigDict) -> Experiment:
    """Returns the parts that a valid configuration names. Data sets are opened, nothing is computed.

    Raises:
      ConfigError, DataError: a data set that cannot be used, or batches that do not divide over the devices.
    """
    train_data, eval_data = (load_dataset(config, split) for split in (config.data.train_split, config.data.eval_split))
    _check_classes(config, train_data, eval_data)
    sizes = {f"config.{name}.batch_size": config[name].batch_size for name in ("train", "eval")}
    mesh = sharding.make_mesh(**config.mesh, batch_sizes=sizes)
    steps_per_epoch = max(len(train_data.source) // config.train.batch_size, 1)
    total_steps = config.train.steps or max(round(config.train.epochs * steps_per_epoch), 1)
    # Once an epoch, but the epochs of a small data set are short: then one in twenty parts of the run.
    eval_every = config.eval.every or min(max(steps_per_epoch, math.ceil(total_steps / 20)), total_steps)
    if config.optimizer.warmup_steps >= total_steps:
        raise ConfigError(
            f"config.optimizer.warmup_steps = {config.optimizer.warmup_steps}: the whole run has {total_steps} steps; "
            "use fewer, or train longer"
        )
    schedule = optimizers.make_schedule(
        config.optimizer.schedule,
        learning_rate=config.optimizer.learning_rate,
        warmup_steps=config.optimizer.warmup_steps,
        total_steps=total_steps,
    )
    of_training, of_evaluation = _batches(config, train_data, eval_data)
    image_shape = (config.train.batch_size, *config.data.image_size, train_data.source[0]["image"].shape[-1])
    return Experiment(
        train_data=train_data,
        eval_data=eval_data,
        train_batches=of_training,
        eval_batches=of_evaluation,
        image_shape=image_shape,
        model=make_model(config, num_classes=train_data.num_classes, image_shape=image_shape),
        tx=optimizers.make_optimizer(
            config.optimizer.name,
            schedule=schedule,
            weight_decay=config.optimizer.weight_decay,
            grad_clip=config.optimizer.grad_clip,
        ),
        schedule=schedule,
        loss_fn=make_loss(config, num_classes=train_data.num_classes),
        augment_fn=_augment_fn(config),
        ema_decay=config.optimizer.ema_decay or None,
        mesh=mesh,
        total_steps=total_steps,
        eval_every=eval_every,
        checkpoint_every=config.checkpoint.every or eval_every,
    )


def _check_classes(config: ConfigDict, train_data: SegmentationDataset, eval_data: SegmentationDataset) -> None:
    if train_data.class_names != eval_data.class_names:
        raise ConfigError(
            f"config.data: the splits differ in their classes: {config.data.train_split!r} has "
            f"{', '.join(train_data.class_names)}; {config.data.eval_split!r} has {', '.join(eval_data.class_names)}"
        )
    if train_data.num_classes == 1:
        raise ConfigError(
            f"config.data: the data set has one class, {train_data.class_names[0]!r}, so there is nothing to tell "
            "apart; check the values of its masks (for the data set folder: data.options.values)"
        )


def _batches(config: ConfigDict, train_data: SegmentationDataset, eval_data: SegmentationDataset) -> tuple[Any, Any]:
    """Returns this process's share of the batches to train on and to evaluate on."""
    size = tuple(config.data.image_size)
    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    of_training = train_batches(
        train_data,
        canvas_size=augment.canvas_size(size, config.augment.scale),
        batch_size=config.train.batch_size,
        seed=config.seed,
        cache=config.data.cache == "host",
        **processes,
    )
    of_evaluation = eval_batches(
        eval_data,
        image_size=size,
        batch_size=config.eval.batch_size,
        native=config.eval.resolution == "native",
        **processes,
    )
    return of_training, of_evaluation


def _augment_fn(config: ConfigDict) -> augment.AugmentFn | None:
    """Returns the augmentation, or None when every strength is off and pictures can stay as they are."""
    if all(tuple(value) == (1.0, 1.0) if name == "scale" else not value for name, value in config.augment.items()):
        return None
    return augment.make_augment(crop_size=tuple(config.data.image_size), **config.augment)


def load_dataset(config: ConfigDict, split: str) -> SegmentationDataset:
    """Returns a split of the data set that a configuration names.

    Raises:
      DataError: it is not there, or cannot be used.
    """
    function = look_up(config.data.name, DATASETS, key="config.data.name")
    place = {"data_dir": config.data.dir} if "data_dir" in option_names(function) else {}
    dataset = function(split, **place, **config.data.options)
    if not isinstance(dataset, SegmentationDataset):
        raise ConfigError(
            f"config.data.name = {config.data.name!r}: returned a {type(dataset).__name__}; a data set's function "
            "returns a flaxseg.SegmentationDataset"
        )
    return dataset


def make_model(config: ConfigDict, *, num_classes: int, image_shape: tuple[int, ...]) -> nn.Module:
    """Returns the network that a configuration names, once it was tried on shapes alone.

    Raises:
      ConfigError: options that do not fit the pictures, or a network of the user's own that breaks the contract.
    """
    function = look_up(config.model.name, MODELS, key="config.model.name")
    model = function(num_classes=num_classes, dtype=jnp.dtype(config.train.precision), **config.model.options)

    def predict(key: jax.Array, image: jax.Array) -> jax.Array:
        state = create_train_state(key, image, model=model, tx=optax.identity())
        return predict_logits(state, image, model=model)

    wanted = (1, *image_shape[1:3], num_classes)
    try:
        made = jax.eval_shape(predict, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape[1:]), jnp.uint8))
    except Exception as error:
        raise ConfigError(
            f"config.model: {config.model.name} with these options cannot take pictures {list(image_shape[1:])} "
            f"(height, width, channels): {type(error).__name__}: {str(error).strip()}"
        ) from error
    if (made.shape, made.dtype) != (wanted, jnp.float32):
        raise ConfigError(
            f"config.model: {config.model.name} gives {made.dtype}{list(made.shape)} for a picture "
            f"{list(image_shape[1:])}; a network gives logits float32{list(wanted)}"
        )
    return model


def make_loss(config: ConfigDict, *, num_classes: int) -> losses.LossFn:
    """Returns the loss that a configuration names, once it was tried on shapes alone.

    Raises:
      ConfigError: options that do not fit the data, such as class weights of another number of classes.
    """
    loss_fn = losses.weighted_sum(config.loss, config.loss_options)
    logits, label = (1, 8, 8, num_classes), (1, 8, 8)
    try:
        jax.eval_shape(loss_fn, jax.ShapeDtypeStruct(logits, jnp.float32), jax.ShapeDtypeStruct(label, jnp.uint8))
    except ConfigError as error:
        raise ConfigError(f"config.loss_options: {error}") from error
    return loss_fn
