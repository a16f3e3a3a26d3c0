"""From a configuration to a trained network: restore what is there, and fit."""

import dataclasses
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from clu import parameter_overview
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg import device_cache, sharding
from flaxseg.checkpoints import CHECKPOINTS, Checkpoints, claim_workdir, has_checkpoint
from flaxseg.config import leaves
from flaxseg.data.batch import Batch
from flaxseg.data.pipeline import iterate
from flaxseg.experiment import Experiment, compose, run_key
from flaxseg.metrics import ConfusionMatrix, per_class_table
from flaxseg.progress import TrainingProgress
from flaxseg.start import load_start, restore_or_create
from flaxseg.stopping import StopSignals
from flaxseg.summaries import Pictures, Summaries
from flaxseg.train_step import TrainState, predict_logits, score_logits, train_step
from flaxseg.validation import validate


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves: the state it came to, and its last evaluation."""

    confusion: ConfusionMatrix | None
    """None for a run that was stopped before its first evaluation."""
    class_names: tuple[str, ...]
    state: TrainState
    best_step: int | None
    stopped_by: int
    """The signal that stopped it; 0 for a run that went to its end."""
    skipped: tuple[str, ...] = ()
    """What was wrong with each example that was skipped; see the key data.skip_bad."""

    def table(self) -> str:
        """Returns the per-class table of the last evaluation as text."""
        if self.confusion is None:
            return "no evaluation yet"
        return per_class_table(np.asarray(self.confusion.counts), self.class_names)


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> Result:
    """Trains as a configuration says, or goes on where the run in the working directory stopped.

    Args:
      config: from a file of `configs/`, or default_config() with changes.
      workdir: holds the checkpoints, TensorBoard's events and pictures; made if it is not there.

    Raises:
      ConfigError, DataError: the configuration and the data set do not work, before anything is written; or an
        example turns out to be unreadable.
      CheckpointError: the working directory holds another experiment, or a checkpoint that does not fit.
    """
    validate(config)
    workdir = Path(workdir)
    experiment = compose(config)
    loaded = None if has_checkpoint(workdir) else load_start(experiment, config)
    claim_workdir(workdir, config)
    with (
        Checkpoints(
            workdir / CHECKPOINTS, keep=config.checkpoint.keep, best_metric=config.checkpoint.best_metric
        ) as checkpoints,
        Summaries(workdir, experiment.eval_data) as summaries,
    ):
        state = restore_or_create(experiment, config, checkpoints, loaded)
        overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        summaries.start(dict(leaves(config)), overview)
        _announce(experiment, config, state)
        return fit(experiment, state, config, checkpoints, summaries)


def _announce(experiment: Experiment, config: ConfigDict, state: TrainState) -> None:
    """Says on the terminal what is about to run."""
    if jax.process_index() != 0:
        return
    parameters, devices = parameter_overview.count_parameters(state.params), experiment.mesh.devices
    data = experiment.train_data, experiment.eval_data
    tqdm.write(
        f"{config.data.name}: {len(data[0].source):,} pictures to train on, {len(data[1].source):,} to evaluate on, "
        f"{data[0].num_classes} classes\n"
        f"{config.model.name}: {parameters:,} parameters, {config.train.precision}, "
        f"on {devices.size} x {devices.flat[0].device_kind}\n"
        f"steps {int(state.step):,} to {experiment.total_steps:,}, batches of {config.train.batch_size}, "
        f"an evaluation every {experiment.eval_every:,} steps",
        file=sys.stderr,
    )


def fit(
    experiment: Experiment, state: TrainState, config: ConfigDict, checkpoints: Checkpoints, summaries: Summaries
) -> Result:
    """Trains from the state's step to the end; evaluates, saves and writes summaries on the way.

    A signal to stop (Ctrl-C, SIGTERM) ends it after the step under way, with a checkpoint of that step.
    """
    compiled = _compiled(experiment, state)
    stored = experiment.load_stored() if experiment.load_stored else {}
    key = run_key(config)
    reading = {"num_threads": config.data.num_threads, "prefetch": config.data.prefetch}
    step, total = int(state.step), experiment.total_steps
    batches = _placed(iterate(experiment.train_batches, start=step, **reading), experiment.mesh)
    confusion = None
    progress = TrainingProgress(
        summaries.training, experiment.schedule,
        start=step, total=total, every=config.log.every, batch_size=config.train.batch_size,
    )  # fmt: skip
    with progress, StopSignals() as stop:
        while step < total and not stop.received:
            state, metrics = compiled.step(state, next(batches), key, stored)
            step += 1
            progress.add(step, metrics)
            scores = None
            # Evaluate before saving, so that a checkpoint comes with its scores and the best one can be kept.
            if step % experiment.eval_every == 0 or step == total:
                with progress.paused():
                    confusion, pictures = evaluate_all(experiment, compiled, state, config.log.pictures, reading)
                    summaries.evaluation(step, np.asarray(confusion.counts), pictures)
                scores = confusion.compute()
                progress.show(scores)
            last = step == total or bool(stop.received)
            if last or step % experiment.checkpoint_every == 0 or (scores and checkpoints.is_best(scores)):
                checkpoints.save(step, state, scores)
    if confusion is None and not stop.received:
        confusion, _ = evaluate_all(experiment, compiled, state, 0, reading)
    return Result(
        confusion,
        experiment.eval_data.class_names,
        state,
        checkpoints.best_step,
        stop.received,
        experiment.bad.messages,
    )


class _Compiled(NamedTuple):
    """The jitted functions of a run; all keep the state where it is."""

    step: Callable[..., Any]
    """(state, batch, key, stored) -> (state, metrics); takes the state's memory. A batch of indices is looked up in
    what is stored on the devices."""
    logits: Callable[..., Any]
    """(state, image) -> logits"""
    score: Callable[..., Any]
    """(logits, batch) -> metrics. Apart from the network, as labels at their own resolution come in several shapes."""
    label: Callable[..., Any]
    """logits -> most likely classes"""


def _compiled(experiment: Experiment, state: TrainState) -> _Compiled:
    placement, everywhere = jax.tree.map(lambda x: x.sharding, state), sharding.replicated(experiment.mesh)
    model = sharding.gathered(experiment.model, experiment.mesh)
    fixed_step = functools.partial(
        train_step,
        model=model,
        loss_fn=experiment.loss_fn,
        tx=experiment.tx,
        augment_fn=experiment.augment_fn,
        ema_decay=experiment.ema_decay,
    )

    def step(state: TrainState, batch: Batch, key: jax.Array, stored: device_cache.Stored) -> Any:
        batch = device_cache.take(stored, batch["index"], experiment.mesh) if stored else batch
        return fixed_step(state, batch, key)

    return _Compiled(
        step=jax.jit(step, donate_argnums=0, out_shardings=(placement, everywhere)),
        logits=jax.jit(functools.partial(predict_logits, model=model)),
        score=jax.jit(score_logits, out_shardings=everywhere),
        label=jax.jit(lambda logits: logits.argmax(-1).astype(jnp.uint8), out_shardings=everywhere),
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
    experiment: Experiment, compiled: _Compiled, state: TrainState, pictures: int, reading: dict[str, int]
) -> tuple[ConfusionMatrix, Pictures]:
    """Returns the confusion matrix of the whole evaluation set, each example counted once, and pictures of it."""
    total = ConfusionMatrix.empty(experiment.eval_data.num_classes)
    shown = Pictures(pictures)
    waiting: deque[Any] = deque()
    batches = experiment.eval_batches
    with tqdm(total=len(batches), desc="evaluate", unit="batch", leave=False, mininterval=0.5, disable=None) as bar:
        for batch in iterate(batches, **reading):
            placed = sharding.place_batch(batch, experiment.mesh)
            logits = compiled.logits(state, placed["image"])
            waiting.append(compiled.score(logits, {k: v for k, v in placed.items() if k != "image"}).confusion)
            if shown.wants_more:
                shown.add(batch, np.asarray(compiled.label(logits)))
            # One batch behind: the device works on this one while the counts of the last are fetched.
            if len(waiting) > 1:
                total = total.merge(waiting.popleft().to_host())
            bar.update()
    for confusion in waiting:
        total = total.merge(confusion.to_host())
    return total, shown
