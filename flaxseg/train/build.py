"""The parts of a run: what a configuration names, looked up, checked and put together."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg import augment, losses, optimizers
from flaxseg.data.bad_examples import BadExamples
from flaxseg.data.class_weights import class_weights_of
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ConfigError
from flaxseg.models import MODELS
from flaxseg.optimizers import RateScales, groups
from flaxseg.optimizers.groups import IsFrozen
from flaxseg.registry import look_up, option_names
from flaxseg.train import device_cache, inputs, sharding
from flaxseg.train.step import create_train_state, predict_logits


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts that a configuration names, ready to run."""

    train_data: SegmentationDataset
    eval_data: SegmentationDataset
    train_batches: Any
    """[n] is the batch of step n on the host; where the dataset lies on the devices, {"index": int32[B]}."""
    load_stored: Callable[[], device_cache.Stored] | None
    """Puts the training dataset on the devices; None: batches come from the host."""
    eval_batches: Any
    image_shape: tuple[int, ...]
    """[B, H, W, C] of the pictures that the network is trained on, over all processes."""
    model: nn.Module
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    frozen: IsFrozen | None
    """Which parameters stay as they are; None: all learn."""
    scales: RateScales
    """What the learning rates of parameters are multiplied by."""
    parameter_groups: str
    """A table of how the optimizer treats which parameters."""
    class_weights: tuple[float, ...] | None
    """Of the losses; None: all classes weigh alike."""
    loss_fn: losses.LossFn
    augment_fn: augment.AugmentFn | None
    ema_decay: float | None
    mesh: Mesh
    total_steps: int
    eval_every: int
    checkpoint_every: int
    bad: BadExamples
    """What could not be read so far, where data.skip_bad allows for it."""


def compose(config: ConfigDict, workdir: Path | None = None) -> Experiment:
    """Returns the parts that a valid configuration names. Datasets are opened; nothing is computed on a device.

    Args:
      config: that validate() has no errors of.
      workdir: the run's, which may hold the class weights that it began with.

    Raises:
      ConfigError, DataError: a dataset that cannot be used, or batches that do not divide over the devices.
    """
    bad = BadExamples(config.data.skip_bad, functools.partial(tqdm.write, file=sys.stderr))
    train_data, eval_data = inputs.load_splits(config, bad)
    sizes = {f"config.{name}.batch_size": config[name].batch_size for name in ("train", "eval")}
    mesh = sharding.make_mesh(**config.mesh, batch_sizes=sizes)
    steps_per_epoch = max(len(train_data.source) // config.train.batch_size, 1)
    total_steps = config.train.steps or max(round(config.train.epochs * steps_per_epoch), 1)
    # Once an epoch, but the epochs of a small dataset are short: then one in twenty parts of the run.
    eval_every = config.eval.every or min(max(steps_per_epoch, math.ceil(total_steps / 20)), total_steps)
    _check_parts(config, mesh)
    schedule = make_schedule(config, total_steps)
    image_shape = (config.train.batch_size, *config.data.image_size, inputs.channels(config, train_data, eval_data))
    model, params, layers = make_model(config, num_classes=train_data.num_classes, image_shape=image_shape)
    frozen, scales = make_groups(config, params, layers)
    class_weights = class_weights_of(
        config.class_weights, train_data, workdir=workdir, num_threads=config.data.num_threads
    )
    loss_fn = make_loss(config, num_classes=train_data.num_classes, class_weights=class_weights)
    of_training, load_stored = inputs.make_train_batches(config, train_data, mesh)
    return Experiment(
        train_data=train_data,
        eval_data=eval_data,
        train_batches=of_training,
        load_stored=load_stored,
        eval_batches=inputs.make_eval_batches(config, eval_data),
        image_shape=image_shape,
        model=model,
        tx=make_tx(config, schedule, scales),
        schedule=schedule,
        frozen=frozen,
        scales=scales,
        parameter_groups=groups.table(params, frozen=frozen, scales=scales, weight_decay=config.optimizer.weight_decay),
        class_weights=class_weights,
        loss_fn=loss_fn,
        augment_fn=make_augment_fn(config),
        ema_decay=config.optimizer.ema_decay or None,
        mesh=mesh,
        total_steps=total_steps,
        eval_every=eval_every,
        checkpoint_every=config.checkpoint.every or eval_every,
        bad=bad,
    )


def run_key(config: ConfigDict) -> jax.Array:
    """Returns the random key of a run's steps, apart from that of its initial parameters."""
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def make_augment_fn(config: ConfigDict) -> augment.AugmentFn | None:
    """Returns the augmentation, or None when every strength is off and pictures can stay as they are."""
    if all(tuple(value) == (1.0, 1.0) if name == "scale" else not value for name, value in config.augment.items()):
        return None
    return augment.make_augment(crop_size=tuple(config.data.image_size), **config.augment)


def make_schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Returns the learning rate by step that a configuration names."""
    return optimizers.make_schedule(
        config.optimizer.schedule,
        learning_rate=config.optimizer.learning_rate,
        warmup_steps=config.optimizer.warmup_steps,
        total_steps=total_steps,
        options=config.optimizer.schedule_options,
    )


def make_tx(config: ConfigDict, schedule: optax.Schedule, scales: RateScales) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer that a configuration names, with this learning rate by step."""
    return optimizers.make_optimizer(
        config.optimizer.name,
        schedule=schedule,
        weight_decay=config.optimizer.weight_decay,
        grad_clip=config.optimizer.grad_clip,
        options=config.optimizer.options,
        scales=None if scales == RateScales() else scales,
    )


def make_groups(config: ConfigDict, params: Any, layers: Sequence[str]) -> tuple[IsFrozen | None, RateScales]:
    """Returns which parameters are frozen, and what the rates of the others are multiplied by.

    Raises:
      ConfigError: a pattern that covers no parameter, everything frozen, or layers to tell apart without an encoder.
    """
    freeze, lr_scale = tuple(config.optimizer.freeze), tuple(map(tuple, config.optimizer.lr_scale))
    groups.check_patterns("config.optimizer.freeze", freeze, params)
    groups.check_patterns("config.optimizer.lr_scale", [pattern for pattern, _ in lr_scale], params)
    frozen = groups.freezing(freeze)
    if not groups.split(params, frozen)[0]:
        raise ConfigError(f"config.optimizer.freeze = {freeze}: covers every parameter; leave some to be learnt")
    layer_decay = config.optimizer.layer_decay
    if layer_decay != 1 and not layers:
        raise ConfigError(
            f"config.optimizer.layer_decay = {layer_decay}: {config.model.name} has no modules below 'encoder' to tell "
            "apart; use 1, and config.optimizer.lr_scale for parts of it"
        )
    return frozen, RateScales(lr_scale, layer_decay, tuple(layers) if layer_decay != 1 else ())


def make_model(
    config: ConfigDict, *, num_classes: int, image_shape: tuple[int, ...]
) -> tuple[nn.Module, Any, tuple[str, ...]]:
    """Returns the network that a configuration names, once it was tried on shapes alone.

    Returns:
      The network, the shapes of its parameters, and the modules of its encoder in order, as of encoder_layers().

    Raises:
      ConfigError: options that do not fit the pictures, or a network of the user's own that breaks the contract.
    """
    function = look_up(config.model.name, MODELS, argument="config.model.name")
    model = function(num_classes=num_classes, dtype=jnp.dtype(config.train.precision), **config.model.options)

    layers: list[str] = []

    def predict(key: jax.Array, image: jax.Array) -> tuple[jax.Array, Any]:
        state = create_train_state(key, image, model=model, tx=optax.identity())
        layers.extend(groups.encoder_layers(state.params))
        return predict_logits(state, image, model=model), state.params

    wanted = (1, *image_shape[1:3], num_classes)
    try:
        made, params = jax.eval_shape(
            predict, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape[1:]), jnp.uint8)
        )
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
    return model, params, tuple(layers)


def make_loss(config: ConfigDict, *, num_classes: int, class_weights: Sequence[float] | None = None) -> losses.LossFn:
    """Returns the loss that a configuration names, once it was tried on shapes alone.

    Args:
      config: its `loss` and `loss_options`.
      num_classes: channels of the logits.
      class_weights: of every loss that takes some and has none of its own; None: all alike.

    Raises:
      ConfigError: options that do not fit the data, such as class weights of another number of classes.
    """
    options = {name: dict(of_loss) for name, of_loss in config.loss_options.items()}
    if class_weights is not None:
        _check_class_weights(config, class_weights, num_classes)
        for name in _losses_with_class_weights(config):
            options[name] = {"class_weights": tuple(class_weights), **options.get(name, {})}
    loss_fn = losses.weighted_sum(config.loss, options)
    logits, label = (1, 8, 8, num_classes), (1, 8, 8)
    jax.eval_shape(loss_fn, jax.ShapeDtypeStruct(logits, jnp.float32), jax.ShapeDtypeStruct(label, jnp.uint8))
    return loss_fn


def _losses_with_class_weights(config: ConfigDict) -> list[str]:
    used = [name for name, weight in config.loss.items() if weight]
    return [n for n in used if "class_weights" in option_names(look_up(n, losses.LOSSES, argument="config.loss"))]


def _check_class_weights(config: ConfigDict, class_weights: Sequence[float], num_classes: int) -> None:
    if len(class_weights) != num_classes:
        raise ConfigError(
            f"config.class_weights = {tuple(class_weights)}: {len(class_weights)} weights for {num_classes} classes; "
            "give one for each class"
        )
    if not _losses_with_class_weights(config):
        raise ConfigError(
            f"config.class_weights = {config.class_weights!r}: none of the losses {', '.join(config.loss)} takes "
            "class weights; use 'none', or one that does, such as cross_entropy"
        )


def _check_parts(config: ConfigDict, mesh: Mesh) -> None:
    parts, devices = config.optimizer.accumulate_steps, mesh.shape["data"] * mesh.shape["fsdp"]
    if config.train.batch_size % (parts * devices):
        raise ConfigError(
            f"config.train.batch_size = {config.train.batch_size}: does not divide into optimizer.accumulate_steps = "
            f"{parts} parts for {devices} device(s); use a multiple of {parts * devices}, or fewer parts"
        )
