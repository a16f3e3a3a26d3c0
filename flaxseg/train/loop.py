"""Training as a configuration specifies, from the latest checkpoint: `train_and_evaluate`."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from flaxseg.config.changes import config_markdown
from flaxseg.config.members import named_together
from flaxseg.config.schema import leaves
from flaxseg.config.validate import config_key, validate
from flaxseg.data.class_weights import write_class_weights
from flaxseg.errors import ConfigError
from flaxseg.report.console import print_line
from flaxseg.report.metric_writers import check_writer
from flaxseg.report.tensorboard import Summaries
from flaxseg.train.batch_writer import BatchWriter
from flaxseg.train.build import Run, build
from flaxseg.train.callbacks import Callback, reporting_errors
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.compile import compile_run
from flaxseg.train.configured_callbacks import configured_callbacks
from flaxseg.train.describe import describe, describe_steps, hyper_parameters
from flaxseg.train.early_compilation import EarlyCompilation
from flaxseg.train.fit import fit
from flaxseg.train.histogram_writer import HistogramWriter
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.non_finite import NonFiniteStep
from flaxseg.train.parts.model import describe_model
from flaxseg.train.parts.public_model import with_public_network
from flaxseg.train.profiler import Profiler
from flaxseg.train.progress import ProgressBar
from flaxseg.train.recovery import ROLLBACKS, RollBack, after_rollbacks, recovery
from flaxseg.train.result import Result
from flaxseg.train.state import Loaded, abstract_state, load_weights, restore_or_create
from flaxseg.train.step import TrainState
from flaxseg.train.supervision import Supervision
from flaxseg.train.workdir import Workdir
from flaxseg.train.writers import CheckpointWriter, HardestExamplesWriter, MetricsWriter, SampleWriter, SummaryWriter


def train_and_evaluate(config: ConfigDict, workdir: str | Path, *, callbacks: Sequence[Callback] = ()) -> Result:
    """Trains as a configuration specifies, resuming from the latest checkpoint in the working directory, if any.

    Ctrl-C, SIGTERM and SIGUSR1 stop the run after the current step, with a checkpoint; see `preemption`. With several
    processes all stop after the same step, and if one of them dies, the others exit.

    Args:
      config: from a file of `configs/`, or `default_config()` with changes.
      workdir: receives checkpoints, TensorBoard events and images; created if it does not exist.
      callbacks: react to the events of the run, after the run's own writers and `config.train.callbacks`.

    Raises:
      ConfigError: the configuration is invalid, names several runs (see `members.train_together`), or does not fit
        the data or the devices; nothing was written.
      DataError: the dataset cannot be used, or an example turns out to be unreadable.
      WeightsError: pretrained weights cannot be read or do not fit; nothing was written.
      CheckpointError: the working directory contains a run of another configuration or of other data, or a checkpoint
        that does not fit; another run is using it; or it contains something other than a run.
      TrainingError: an image, a loss, a gradient or an update is not finite, and config.train.non_finite does not allow
        to continue; the message names the step, its examples, and a file that `replay` runs again.
    """
    directory = Workdir(workdir)
    config, _ = with_public_network(config)
    validate(config)
    callbacks = [*configured_callbacks(config, directory.path), *callbacks]
    with (
        Supervision(saves=config.checkpoint.keep > 0) as supervision,
        WorkdirLock(directory) as lock,
        reporting_errors(callbacks),
    ):
        supervision.before_exit(lock.release)
        return _train_in(directory, config, supervision, [lock], callbacks)


def _train_in(
    directory: Workdir,
    config: ConfigDict,
    supervision: Supervision,
    guards: Sequence[Callback],
    callbacks: Sequence[Callback],
) -> Result:
    """Trains in a locked working directory; the guards are called before the run's own writers."""
    rollbacks = 0
    while True:
        try:
            return _train_from_checkpoint(directory, config, supervision, guards, callbacks, rollbacks)
        except RollBack as back:
            rollbacks = back.rollbacks
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("roll back")


def _train_from_checkpoint(
    directory: Workdir,
    config: ConfigDict,
    supervision: Supervision,
    guards: Sequence[Callback],
    callbacks: Sequence[Callback],
    rollbacks: int,
) -> Result:
    """Trains from the latest checkpoint, if any, or raises RollBack to be called again.

    Args:
      directory: the working directory.
      config: the configuration.
      supervision: see `fit`.
      guards: see `_train_in`.
      callbacks: see `train_and_evaluate`.
      rollbacks: number of times that this process has returned to a checkpoint.
    """
    run = build(config, workdir=directory)
    if named := named_together(dict(leaves(config))):
        raise ConfigError(
            f"config.{named}: this function trains one run; use flaxseg.train.members.train_together, or ()"
        )
    with config_key("log"):
        check_writer(config.log.writer)
    directory.check_keep(run.loop.checkpoints.keep)
    load = functools.cache(functools.partial(load_weights, run))
    if not directory.has_checkpoint():
        load()  # Here, so that an error is raised before anything is written.
    with contextlib.ExitStack() as stack:
        opened = open_run(stack, directory, config, run, load, ProgressBar(run.loop.checkpoints.best_metric), rollbacks)
        events = [*guards, *opened.writers, *callbacks]
        try:
            return fit(
                opened.run,
                opened.state,
                opened.checkpoints,
                events,
                supervision=supervision,
                compilation=opened.compilation,
            )
        except NonFiniteStep as error:
            raise recovery(opened.run, config, directory, error) from None


class OpenRun(NamedTuple):
    """A run whose working directory is open, ready for its next step."""

    run: Run
    state: TrainState
    checkpoints: Checkpoints
    writers: list[Callback]
    compilation: EarlyCompilation


def open_run(
    stack: contextlib.ExitStack,
    directory: Workdir,
    config: ConfigDict,
    run: Run,
    load: Callable[[], Loaded | None],
    progress: ProgressBar,
    rollbacks: int = 0,
) -> OpenRun:
    """Opens the working directory of a run, and restores or creates its state.

    Args:
      stack: closes what is opened.
      directory: the working directory, which is locked and fits the run.
      config: the configuration of the run.
      run: the run.
      load: see `restore_or_create`.
      progress: shows the progress of the run, and what is about to run.
      rollbacks: number of times that this process has returned to a checkpoint.
    """
    description = describe_model(config, run.model, run.data.train)
    directory.claim(config, run.data.splits, description)
    plan = run.loop.checkpoints
    if plan.keep == 0 and jax.process_index() == 0 and not progress.row:
        print_line(
            "no checkpoint is saved (config.checkpoint.keep = 0): this run cannot be resumed, its network is not kept, "
            "and repeating the command begins it anew"
        )
    checkpoints = stack.enter_context(
        Checkpoints(
            directory.checkpoints, keep=plan.keep, best_metric=plan.best_metric, retry_minutes=plan.retry_minutes
        )
    )
    shapes = abstract_state(run)
    tables = describe(
        run,
        shapes,
        dataset=config.data.name,
        precision=config.train.precision,
        is_new=checkpoints.latest_step is None,
        is_brief=bool(progress.row),
    )
    compilation = _begin_to_compile(run, shapes, checkpoints, is_alone=progress.row is None)
    state = restore_or_create(run, checkpoints, load)
    counts = checkpoints.counts(int(state.step))
    run = after_rollbacks(run, max(rollbacks, counts.get(ROLLBACKS, 0)))
    if jax.process_index() == 0:
        stops_early = run.loop.should_stop_early(int(state.step), checkpoints.improved_step)
        steps = describe_steps(run, int(state.step), optimizer=config.optimizer, stops_early=stops_early)
        print_line(f"{progress.name}: {steps}" if progress.name else steps)
    if run.optim.class_weights and jax.process_index() == 0:
        write_class_weights(directory.class_weights, run.optim.class_weights, run.data.train.class_names)
    # TensorFlow is imported after the step was traced, because Python does one or the other.
    wait = compilation.wait_for_python
    log = {"writer": config.log.writer, "confusion_matrix": config.log.confusion_matrix}
    summaries = stack.enter_context(Summaries(directory.path, run.data.to_show, **log, wait=wait))
    # The run was stopped in this evaluation, or killed before its scores were added to the checkpoint.
    repeats = run.loop.should_evaluate(int(state.step)) and checkpoints.lacks_scores(int(state.step))
    hparams = hyper_parameters(config, description)
    summaries.start(hparams, config_markdown(config), tables, step=int(state.step), repeats_evaluation=repeats)
    writers = [
        stack.enter_context(progress),
        SampleWriter(directory.samples, description),
        SummaryWriter(summaries, run.data.to_show),
        MetricsWriter(directory.metrics, repeats_evaluation=repeats),
        HardestExamplesWriter(summaries, run.data.train),
        BatchWriter(summaries, config.log.batch),
        HistogramWriter(summaries, config.log.histograms),
        stack.enter_context(Profiler(directory.path, config.log.profile)),
        CheckpointWriter(checkpoints),
    ]
    return OpenRun(run, state, checkpoints, writers, compilation)


def _begin_to_compile(run: Run, shapes: Any, checkpoints: Checkpoints, *, is_alone: bool) -> EarlyCompilation:
    """Returns the jitted functions of a run, whose step is compiled from now on, unless it is complete or not alone."""
    step = checkpoints.latest_step or 0
    compilation = EarlyCompilation(run, compile_run(run, shapes))
    if is_alone and not run.loop.should_stop(step, checkpoints.improved_step):
        compilation.start(shapes, step=step)
    return compilation
