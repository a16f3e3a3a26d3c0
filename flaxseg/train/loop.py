"""From a configuration to a trained network: restore what is there, and fit."""

import dataclasses
import functools
import sys
import textwrap
from collections import deque
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg.augment.color import without_effect
from flaxseg.config.schema import leaves
from flaxseg.config.validate import validate
from flaxseg.data import class_weights
from flaxseg.data.pipeline import iterate
from flaxseg.data.types import identity
from flaxseg.metrics import Calibration, PerImage
from flaxseg.report.tensorboard import Pictures, Summaries
from flaxseg.train import sharding
from flaxseg.train.build import Experiment, compose, run_key
from flaxseg.train.checkpoints import CHECKPOINTS, Checkpoints, has_checkpoint
from flaxseg.train.compile import Compiled, compile_run, placed
from flaxseg.train.hard_examples import HardExamples
from flaxseg.train.preemption import StopSignals
from flaxseg.train.progress import TrainingProgress
from flaxseg.train.state import load_start, restore_or_create
from flaxseg.train.step import EvalMetrics, TrainState
from flaxseg.train.workdir import check_data, check_workdir, claim_workdir


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves: the state it came to, and its last evaluation."""

    scores: EvalMetrics | None
    """None for a run that was stopped before its first evaluation."""
    class_names: tuple[str, ...]
    state: TrainState
    best_step: int | None
    stopped_by: int
    """The signal that stopped it; 0 for a run that came to its end."""
    stopped_early: bool = False
    """Whether that was because the best score was too long ago; see the key train.early_stop."""
    skipped: tuple[str, ...] = ()
    """What was wrong with each example that was skipped; see the key data.skip_bad."""

    def table(self) -> str:
        """Returns the tables of the last evaluation as text: of the classes, and of each further metric."""
        if self.scores is None:
            return "no evaluation yet"
        tables = [self.scores.confusion.table(self.class_names)]
        for name, metric in self.scores.others.items():
            scores = [f"{key.partition('/')[2]} {value:.4g}" for key, value in metric.compute().items()]
            means = textwrap.fill(f"{name}: {', '.join(scores)}", 100, subsequent_indent="  ")
            tables.append(f"{means}\n{metric.table(self.class_names)}")
        return "\n\n".join(tables)


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> Result:
    """Trains as a configuration says, or goes on where the run in the working directory stopped.

    Args:
      config: from a file of `configs/`, or default_config() with changes.
      workdir: holds the checkpoints, TensorBoard's events and pictures; made if it is not there.

    Raises:
      ConfigError, DataError: the configuration and the dataset do not work, before anything is written; or an
        example turns out to be unreadable.
      CheckpointError: the working directory holds another experiment, or a checkpoint that does not fit.
      TrainingError: a loss or gradient that is not finite.
    """
    validate(config)
    workdir = Path(workdir)
    check_workdir(workdir, config)
    experiment = compose(config, workdir)
    splits = {"train": experiment.train_data, "eval": experiment.eval_data}
    check_data(workdir, splits)
    loaded = None if has_checkpoint(workdir) else load_start(experiment, config)
    claim_workdir(workdir, config, splits)
    with (
        Checkpoints(
            workdir / CHECKPOINTS, keep=config.checkpoint.keep, best_metric=config.checkpoint.best_metric
        ) as checkpoints,
        Summaries(workdir, experiment.eval_data) as summaries,
    ):
        state = restore_or_create(experiment, config, checkpoints, loaded)
        overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
        tables = {"parameters": overview, "parameter_groups": experiment.parameter_groups}
        tables |= _class_weights(experiment, workdir)
        summaries.start(dict(leaves(config)), tables, int(state.step))
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
        f"an evaluation every {experiment.eval_every:,} steps\n\n{experiment.parameter_groups}\n",
        file=sys.stderr,
    )
    channels = experiment.image_shape[-1]
    for name in without_effect(config.augment, channels=channels):
        tqdm.write(f"augment.{name} does nothing to pictures of {channels} channel(s)", file=sys.stderr)
    if experiment.class_weights is not None:
        tqdm.write(f"{_class_weights_table(experiment, colors=sys.stderr.isatty())}\n", file=sys.stderr)


def _class_weights(experiment: Experiment, workdir: Path) -> dict[str, str]:
    """Stores the class weights with the run; returns their table under its name, or nothing where there are none."""
    if experiment.class_weights is None:
        return {}
    if jax.process_index() == 0:
        class_weights.store(experiment.class_weights, experiment.train_data.class_names, workdir)
    return {"class_weights": _class_weights_table(experiment, colors=False)}


def _class_weights_table(experiment: Experiment, *, colors: bool) -> str:
    data = experiment.train_data
    return class_weights.table(experiment.class_weights or (), data.class_names, data.palette, colors=colors)


def fit(
    experiment: Experiment, state: TrainState, config: ConfigDict, checkpoints: Checkpoints, summaries: Summaries
) -> Result:
    """Trains from the state's step to the end; evaluates, saves and writes summaries on the way.

    A signal to stop (Ctrl-C, SIGTERM) ends it after the step under way, with a checkpoint of that step.
    """
    compiled = compile_run(experiment, state, config)
    stored = experiment.load_stored() if experiment.load_stored else {}
    key = run_key(config)
    reading = {"num_threads": config.data.num_threads, "prefetch": config.data.prefetch}
    step, total = int(state.step), experiment.total_steps
    batches = placed(iterate(experiment.train_batches, start=step, **reading), experiment.mesh)
    latest, hardest = None, _Hardest(experiment, summaries)
    progress = TrainingProgress(
        summaries.training, experiment.schedule,
        start=step, total=total, every=config.log.every, batch_size=config.train.batch_size,
        write_hardest=hardest.write,
    )  # fmt: skip
    is_exhausted = functools.partial(_is_exhausted, experiment, checkpoints, config.train.early_stop)
    with progress, StopSignals() as stop:
        early = is_exhausted(step)
        while step < total and not stop.received and not early:
            state, metrics = compiled.step(state, next(batches), key, stored)
            step += 1
            progress.add(step, metrics)
            scores = None
            # Evaluate before saving, so that a checkpoint comes with its scores and the best one can be kept.
            if step % experiment.eval_every == 0 or step == total:
                with progress.paused():
                    latest, pictures = evaluate_all(experiment, compiled, state, config.log.pictures, reading)
                    scores = latest.compute()
                    summaries.evaluation(step, np.asarray(latest.confusion.counts), scores, pictures)
                    _write_further(experiment, summaries, step, latest)
                    hardest.show(step)
                progress.show({config.checkpoint.best_metric: scores[config.checkpoint.best_metric]})
            is_best = scores is not None and checkpoints.is_best(scores)
            early = scores is not None and not is_best and is_exhausted(step)
            last = step == total or bool(stop.received) or early
            if last or is_best or step % experiment.checkpoint_every == 0:
                # Waits for what was dispatched, so that nothing is saved that is not finite.
                progress.flush()
                checkpoints.save(step, state, scores)
    if latest is None and not stop.received:
        latest, _ = evaluate_all(experiment, compiled, state, 0, reading)
    return Result(
        latest,
        experiment.eval_data.class_names,
        state,
        checkpoints.best_step,
        stop.received,
        early and step < total,
        experiment.bad.messages,
    )


def _write_further(experiment: Experiment, summaries: Summaries, step: int, scores: EvalMetrics) -> None:
    """Writes what further metrics tell beside their scores."""
    for metric in scores.others.values():
        if isinstance(metric, PerImage):
            source = experiment.eval_data.source
            ids = [identity(source, index) for index in range(len(source))]
            # Rows are in the order of the dataset; the last ones only fill up a batch.
            summaries.per_image(step, ids, metric.image_iou()[: len(ids)], metric.image_dice()[: len(ids)])
        elif isinstance(metric, Calibration):
            summaries.reliability(step, metric.reliability())


def _is_exhausted(experiment: Experiment, checkpoints: Checkpoints, patience: int, step: int) -> bool:
    """Whether the best score was `patience` steps ago at the last evaluation up to a step; never for patience 0."""
    evaluated = step // experiment.eval_every * experiment.eval_every
    return patience > 0 and evaluated - (checkpoints.best_step or 0) >= patience


class _Hardest:
    """Lists the training examples with the largest loss, and shows the last ones at each evaluation."""

    def __init__(self, experiment: Experiment, summaries: Summaries) -> None:
        self._data = experiment.train_data
        self._summaries = summaries
        self._last: list[tuple[int, float]] = []

    def write(self, step: int, examples: HardExamples) -> None:
        self._last = examples.named()
        self._summaries.hardest(step, [(identity(self._data.source, index), loss) for index, loss in self._last])

    def show(self, step: int) -> None:
        if self._last:
            shown = [(self._data.source[index], loss) for index, loss in self._last]
            self._summaries.hardest_pictures(step, shown, self._data)


def evaluate_all(
    experiment: Experiment, compiled: Compiled, state: TrainState, pictures: int, reading: dict[str, int]
) -> tuple[EvalMetrics, Pictures]:
    """Returns the scores of the whole evaluation set, each example counted once, and pictures of it."""
    total: EvalMetrics | None = None
    shown = Pictures(pictures)
    waiting: deque[EvalMetrics] = deque()
    batches = experiment.eval_batches

    def collect() -> EvalMetrics:
        measured = waiting.popleft().to_host()
        return measured if total is None else total.merge(measured)

    with tqdm(total=len(batches), desc="evaluate", unit="batch", leave=False, mininterval=0.5, disable=None) as bar:
        for batch in iterate(batches, **reading):
            placed = sharding.place_batch(batch, experiment.mesh)
            logits = compiled.logits(state, placed["image"])
            waiting.append(compiled.score(logits, {k: v for k, v in placed.items() if k != "image"}))
            if shown.wants_more:
                shown.add(batch, np.asarray(compiled.label(logits)))
            # One batch behind: the device works on this one while the counts of the last are fetched.
            if len(waiting) > 1:
                total = collect()
            bar.update()
    while waiting:
        total = collect()
    assert total is not None, "an evaluation set has examples"
    return total, shown
