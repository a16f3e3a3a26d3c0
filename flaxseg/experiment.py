"""The parts of a run: what a configuration names, looked up, checked and put together."""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg import augment, device_cache, losses, optimizers, sharding
from flaxseg.data import DATASETS
from flaxseg.data.batch import SegmentationDataset
from flaxseg.data.pipeline import canvas_reader, eval_batches, train_batches, train_indices
from flaxseg.data.sampling import class_balanced_weights, read_weights
from flaxseg.data.skipping import BadExamples, Skipping
from flaxseg.data.statistics import class_counts
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
    """[n] is the batch of step n on the host; where the data set lies on the devices, {"index": int32[B]}."""
    load_stored: Callable[[], device_cache.Stored] | None
    """Puts the training data set on the devices; None: batches come from the host."""
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
    bad: BadExamples
    """What could not be read so far, where data.skip_bad allows for it."""


def compose(config: ConfigDict) -> Experiment:
    """Returns the parts that a valid configuration names. Data sets are opened, nothing is computed.

    Raises:
      ConfigError, DataError: a data set that cannot be used, or batches that do not divide over the devices.
    """
    bad = BadExamples(config.data.skip_bad, functools.partial(tqdm.write, file=sys.stderr))
    train_data, eval_data = (load_dataset(config, split) for split in (config.data.train_split, config.data.eval_split))
    check_classes(config, train_data, eval_data)
    if config.data.skip_bad:
        train_data = _skipping(train_data, bad, config.data.train_split)
        eval_data = _skipping(eval_data, bad, config.data.eval_split, ignored=True)
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
    of_training, load_stored = _train_batches(config, train_data, mesh)
    image_shape = (config.train.batch_size, *config.data.image_size, _channels(config, train_data, eval_data))
    return Experiment(
        train_data=train_data,
        eval_data=eval_data,
        train_batches=of_training,
        load_stored=load_stored,
        eval_batches=_eval_batches(config, eval_data),
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
        augment_fn=make_augment_fn(config),
        ema_decay=config.optimizer.ema_decay or None,
        mesh=mesh,
        total_steps=total_steps,
        eval_every=eval_every,
        checkpoint_every=config.checkpoint.every or eval_every,
        bad=bad,
    )


def _skipping(
    dataset: SegmentationDataset, bad: BadExamples, split: str, *, ignored: bool = False
) -> SegmentationDataset:
    return dataclasses.replace(dataset, source=Skipping(dataset.source, bad, split, ignored))


def check_classes(config: ConfigDict, train_data: SegmentationDataset, eval_data: SegmentationDataset) -> None:
    """Checks that both splits have the same classes, and more than one.

    Raises:
      ConfigError: they do not.
    """
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


def run_key(config: ConfigDict) -> jax.Array:
    """Returns the random key of a run's steps, apart from that of its initial parameters."""
    return jax.random.fold_in(jax.random.key(config.seed), 1)


def _channels(config: ConfigDict, train_data: SegmentationDataset, eval_data: SegmentationDataset) -> int:
    """Returns how many channels pictures have, by the first of each split; ConfigError where the splits differ."""
    trained, scored = (data.source[0]["image"].shape[-1] for data in (train_data, eval_data))
    if trained != scored:
        raise ConfigError(
            f"config.data: pictures of the split {config.data.train_split!r} have {trained} channels, those of "
            f"{config.data.eval_split!r} have {scored}; save all with the same channels"
        )
    return int(trained)


def host_batches(config: ConfigDict, train_data: SegmentationDataset) -> Any:
    """Returns this process's share of the training batches, decoded on the host: [n] is that of step n."""
    return train_batches(
        train_data,
        canvas_size=_canvas_size(config),
        cache=config.data.cache == "host",
        **_order(config, train_data),
    )


def _train_batches(
    config: ConfigDict, train_data: SegmentationDataset, mesh: Mesh
) -> tuple[Any, Callable[[], device_cache.Stored] | None]:
    """Returns the training batches, and what puts their data set on the devices if that is asked for."""
    if config.data.cache != "device":
        return host_batches(config, train_data), None
    read = canvas_reader(train_data, _canvas_size(config))
    load = functools.partial(device_cache.load, len(train_data.source), read, mesh, num_threads=config.data.num_threads)
    return train_indices(train_data, **_order(config, train_data)), load


def _canvas_size(config: ConfigDict) -> tuple[int, int]:
    return augment.canvas_size(tuple(config.data.image_size), config.augment.scale)


def _order(config: ConfigDict, train_data: SegmentationDataset) -> dict[str, Any]:
    """Returns what decides which examples a step gets."""
    return {
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "weights": _weights(config, train_data),
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }


def _weights(config: ConfigDict, train_data: SegmentationDataset) -> np.ndarray | None:
    """Returns how often each training picture comes, relative to the others; None: each alike."""
    if config.data.sampling == "uniform":
        return None
    if config.data.sampling == "class_balanced":
        counts = class_counts(train_data, num_threads=config.data.num_threads)
        return class_balanced_weights(counts[:, : train_data.num_classes])
    return read_weights(config.data.sampling, train_data.source)


def _eval_batches(config: ConfigDict, eval_data: SegmentationDataset) -> Any:
    return eval_batches(
        eval_data,
        image_size=tuple(config.data.image_size),
        batch_size=config.eval.batch_size,
        native=config.eval.resolution == "native",
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def make_augment_fn(config: ConfigDict) -> augment.AugmentFn | None:
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
    jax.eval_shape(loss_fn, jax.ShapeDtypeStruct(logits, jnp.float32), jax.ShapeDtypeStruct(label, jnp.uint8))
    return loss_fn
