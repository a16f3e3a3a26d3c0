"""From a configuration to a trained network: compose the parts, restore what is there, and fit."""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import parameter_overview
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg import augment, losses, optimizers, sharding
from flaxseg.checkpoints import Checkpoints, claim_workdir
from flaxseg.config import leaves, validate
from flaxseg.data import DATASETS
from flaxseg.data.batch import Batch, SegmentationDataset
from flaxseg.data.pipeline import eval_batches, iterate, train_batches
from flaxseg.errors import ConfigError
from flaxseg.lookup import look_up, option_names
from flaxseg.metrics import ConfusionMatrix, per_class_table
from flaxseg.models import MODELS
from flaxseg.progress import TrainingProgress
from flaxseg.summaries import Pictures, Summaries
from flaxseg.train_step import TrainState, create_train_state, eval_step, predict_label, train_step


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts that a configuration names, ready to run."""

    train_data: SegmentationDataset
    eval_data: SegmentationDataset
    train_batches: Any
    """[n] is the batch of step n on the host."""
    eval_batches: Any
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


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves: the last evaluation, and the state it was of."""

    confusion: ConfusionMatrix
    class_names: tuple[str, ...]
    state: TrainState
    best_step: int | None

    def table(self) -> str:
        """Returns the per-class table of the last evaluation as text."""
        return per_class_table(np.asarray(self.confusion.counts), self.class_names)


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> Result:
    """Trains as a configuration says, or goes on where the run in the working directory stopped.

    Args:
      config: from a file of `configs/`, or default_config() with changes.
      workdir: holds the checkpoints, TensorBoard's events and pictures; made if it is not there.

    Raises:
      ConfigError, DataError, CheckpointError: with all that is wrong, before anything is trained or written.
    """
    validate(config)
    workdir = Path(workdir)
    experiment = compose(config)
    claim_workdir(workdir, config)
    with (
        Checkpoints(
            workdir / "checkpoints", keep=config.checkpoint.keep, best_metric=config.checkpoint.best_metric
        ) as checkpoints,
        Summaries(workdir, experiment.eval_data) as summaries,
    ):
        state = restore_or_create(experiment, config.seed, checkpoints)
        summaries.start(dict(leaves(config)), parameter_overview.get_parameter_overview(state.params))
        return fit(experiment, state, config, checkpoints, summaries)


def compose(config: ConfigDict) -> Experiment:
    """Returns the parts that a valid configuration names. Data sets are opened, nothing is computed.

    Raises:
      ConfigError, DataError: a data set that cannot be used, or batches that do not divide over the devices.
    """
    train_data, eval_data = (load_dataset(config, split) for split in (config.data.train_split, config.data.eval_split))
    if train_data.class_names != eval_data.class_names:
        raise ConfigError(
            f"config.data: the splits differ in their classes: {config.data.train_split!r} has "
            f"{', '.join(train_data.class_names)}; {config.data.eval_split!r} has {', '.join(eval_data.class_names)}"
        )
    sizes = {f"config.{name}.batch_size": config[name].batch_size for name in ("train", "eval")}
    mesh = sharding.make_mesh(**config.mesh, batch_sizes=sizes)
    steps_per_epoch = max(len(train_data.source) // config.train.batch_size, 1)
    total_steps = config.train.steps or round(config.train.epochs * steps_per_epoch)
    eval_every = config.eval.every or (steps_per_epoch if config.train.epochs else max(total_steps // 10, 1))
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
    crop_size = tuple(config.data.image_size)
    augments = any(value not in (0, (1.0, 1.0)) for value in config.augment.values())
    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    return Experiment(
        train_data=train_data,
        eval_data=eval_data,
        train_batches=train_batches(
            train_data,
            canvas_size=augment.canvas_size(crop_size, config.augment.scale),
            batch_size=config.train.batch_size,
            seed=config.seed,
            **processes,
        ),
        eval_batches=eval_batches(
            eval_data,
            image_size=crop_size,
            batch_size=config.eval.batch_size,
            native=config.eval.resolution == "native",
            **processes,
        ),
        model=make_model(config, num_classes=train_data.num_classes),
        tx=optimizers.make_optimizer(
            config.optimizer.name,
            schedule=schedule,
            weight_decay=config.optimizer.weight_decay,
            grad_clip=config.optimizer.grad_clip,
        ),
        schedule=schedule,
        loss_fn=make_loss(config, num_classes=train_data.num_classes),
        augment_fn=augment.make_augment(crop_size=crop_size, **config.augment) if augments else None,
        ema_decay=config.optimizer.ema_decay or None,
        mesh=mesh,
        total_steps=total_steps,
        eval_every=eval_every,
        checkpoint_every=config.checkpoint.every or eval_every,
    )


def load_dataset(config: ConfigDict, split: str) -> SegmentationDataset:
    """Returns a split of the data set that a configuration names.

    Raises:
      DataError: it is not there, or cannot be used.
    """
    function = look_up(config.data.name, DATASETS, key="config.data.name")
    place = {"data_dir": config.data.dir} if "data_dir" in option_names(function) else {}
    return function(split, **place, **config.data.options)


def make_model(config: ConfigDict, *, num_classes: int) -> nn.Module:
    """Returns the network that a configuration names, for a number of classes."""
    function = look_up(config.model.name, MODELS, key="config.model.name")
    return function(num_classes=num_classes, dtype=jnp.dtype(config.train.precision), **config.model.options)


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


def restore_or_create(experiment: Experiment, seed: int, checkpoints: Checkpoints) -> TrainState:
    """Returns the latest checkpoint's state, or a new one, placed on the mesh."""
    image = jax.ShapeDtypeStruct(experiment.train_batches[0]["image"].shape, jnp.uint8)
    create = functools.partial(
        create_train_state, image=image, model=experiment.model, tx=experiment.tx, ema_decay=experiment.ema_decay
    )
    key = jax.random.key(seed)
    shapes = jax.eval_shape(create, key)
    placement = sharding.state_sharding(shapes, experiment.mesh)
    if checkpoints.latest_step is None:
        return jax.jit(create, out_shardings=placement)(key)
    like = jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, placement)
    return checkpoints.restore(like)


def fit(
    experiment: Experiment, state: TrainState, config: ConfigDict, checkpoints: Checkpoints, summaries: Summaries
) -> Result:
    """Trains from the state's step to the end; evaluates, saves and writes summaries on the way."""
    take_step, evaluate = _compiled(experiment, state)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    reading = {"num_threads": config.data.num_threads, "prefetch": config.data.prefetch}
    step, total = int(state.step), experiment.total_steps
    batches = _placed(iterate(experiment.train_batches, start=step, **reading), experiment.mesh)
    confusion = None
    with TrainingProgress(
        summaries.training, experiment.schedule,
        start=step, total=total, every=config.log.every, batch_size=config.train.batch_size,
    ) as progress:  # fmt: skip
        while step < total:
            state, metrics = take_step(state, next(batches), key)
            step += 1
            progress.add(step, metrics)
            scores = None
            # Evaluate before saving, so that a checkpoint comes with its scores and the best one can be kept.
            if step % experiment.eval_every == 0 or step == total:
                with progress.paused():
                    confusion, pictures = evaluate_all(experiment, evaluate, state, config.log.pictures, reading)
                    summaries.evaluation(step, np.asarray(confusion.counts), pictures)
                scores = confusion.compute()
                progress.show(scores)
            if step % experiment.checkpoint_every == 0 or step == total:
                checkpoints.save(step, state, scores)
    if confusion is None:
        confusion, _ = evaluate_all(experiment, evaluate, state, 0, reading)
    return Result(confusion, experiment.eval_data.class_names, state, checkpoints.best_step)


def _compiled(experiment: Experiment, state: TrainState) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns the jitted training step and evaluation; both keep the state where it is."""
    placement, everywhere = jax.tree.map(lambda x: x.sharding, state), sharding.replicated(experiment.mesh)
    step = functools.partial(
        train_step,
        model=experiment.model,
        loss_fn=experiment.loss_fn,
        tx=experiment.tx,
        augment_fn=experiment.augment_fn,
        ema_decay=experiment.ema_decay,
    )

    def score_and_predict(state: TrainState, batch: Batch) -> tuple[Any, jax.Array]:
        # One program: the compiler computes the logits that both need once.
        model = experiment.model
        return eval_step(state, batch, model=model), predict_label(state, batch["image"], model=model)

    return (
        jax.jit(step, donate_argnums=0, out_shardings=(placement, everywhere)),
        jax.jit(score_and_predict, out_shardings=everywhere),
    )


def _placed(batches: Iterator[Batch], mesh: Mesh) -> Iterator[Batch]:
    """Yields batches on the devices, one transfer ahead of the step that uses it."""
    ahead: deque[Batch] = deque()
    for batch in batches:
        ahead.append(sharding.place_batch(batch, mesh))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def evaluate_all(
    experiment: Experiment, evaluate: Callable[..., Any], state: TrainState, pictures: int, reading: dict[str, int]
) -> tuple[ConfusionMatrix, Pictures]:
    """Returns the confusion matrix of the whole evaluation set, each example counted once, and pictures of it."""
    total = ConfusionMatrix.empty(experiment.eval_data.num_classes)
    shown = Pictures(pictures)
    waiting: deque[Any] = deque()
    batches = experiment.eval_batches
    bar = tqdm(total=len(batches), desc="evaluate", unit="batch", leave=False, mininterval=0.5, disable=None)
    with bar:
        for batch in iterate(batches, **reading):
            metrics, prediction = evaluate(state, sharding.place_batch(batch, experiment.mesh))
            if shown.wants_more:
                shown.add(batch, np.asarray(prediction))
            waiting.append(metrics.confusion)
            # One batch behind: the device works on this one while the counts of the last are fetched.
            if len(waiting) > 1:
                total = total.merge(waiting.popleft().to_host())
            bar.update()
    for confusion in waiting:
        total = total.merge(confusion.to_host())
    return total, shown
