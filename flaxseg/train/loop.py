"""The training loop, and `train_and_evaluate`, which runs it as a configuration specifies."""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from flaxseg.data.class_weights import write_class_weights
from flaxseg.report.tensorboard import Summaries
from flaxseg.train.build import Run, build
from flaxseg.train.callbacks import Callback, Events
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.compile import compile_run
from flaxseg.train.describe import describe
from flaxseg.train.evaluation import Evaluation, evaluate
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.parts.model import describe_model
from flaxseg.train.preemption import StopSignals
from flaxseg.train.progress import ProgressBar
from flaxseg.train.result import Result
from flaxseg.train.sharding import device_prefetch
from flaxseg.train.state import load_weights, restore_or_create
from flaxseg.train.step import TrainState
from flaxseg.train.step_log import StepLog
from flaxseg.train.workdir import Workdir
from flaxseg.train.writers import CheckpointWriter, HardestExamplesWriter, MetricsWriter, SampleWriter, SummaryWriter


def train_and_evaluate(config: ConfigDict, workdir: str | Path, *, callbacks: Sequence[Callback] = ()) -> Result:
    """Trains as a configuration specifies, resuming from the latest checkpoint in the working directory, if any.

    Args:
      config: from a file of `configs/`, or `default_config()` with changes.
      workdir: receives checkpoints, TensorBoard events and images; created if it does not exist.
      callbacks: react to the events of the run, after those of the run's own writers.

    Raises:
      ConfigError: the configuration is invalid, or does not fit the data or the devices; nothing was written.
      DataError: the dataset cannot be used, or an example turns out to be unreadable.
      WeightsError: pretrained weights cannot be read or do not fit; nothing was written.
      CheckpointError: the working directory contains a run of another configuration or of other data, or a checkpoint
        that does not fit; another run is using it; or it contains something other than a run.
      TrainingError: a loss, gradient or update is not finite.
    """
    directory = Workdir(workdir)
    with WorkdirLock(directory) as lock:
        return _train_in(directory, config, [lock], callbacks)


def _train_in(
    directory: Workdir, config: ConfigDict, guards: Sequence[Callback], callbacks: Sequence[Callback]
) -> Result:
    """Trains in a locked working directory; the guards are called before the run's own writers."""
    run = build(config, workdir=directory)
    load = functools.cache(functools.partial(load_weights, run))
    if not directory.has_checkpoint():
        load()  # Here, so that an error is raised before anything is written.
    description = describe_model(config, run.model, run.data.train)
    directory.claim(config, run.data.splits, description)
    plan = run.loop.checkpoints
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(
                directory.checkpoints,
                keep=plan.keep,
                best_metric=plan.best_metric,
                retry_minutes=plan.retry_minutes,
            )
        )
        state = restore_or_create(run, checkpoints, load)
        tables = describe(run, state, dataset=config.data.name, precision=config.train.precision)
        if run.optim.class_weights and jax.process_index() == 0:
            write_class_weights(directory.class_weights, run.optim.class_weights, run.data.train.class_names)
        summaries = stack.enter_context(Summaries(directory.path, run.data.evaluation))
        summaries.start(config.to_dict(), tables, step=int(state.step))
        writers = [
            stack.enter_context(ProgressBar(plan.best_metric)),
            SampleWriter(directory.samples, description),
            SummaryWriter(summaries, run.data.evaluation),
            MetricsWriter(directory.metrics, run.data.evaluation.class_names),
            HardestExamplesWriter(summaries, run.data.train),
            CheckpointWriter(checkpoints),
        ]
        return fit(run, state, checkpoints, [*guards, *writers, *callbacks])


def fit(run: Run, state: TrainState, checkpoints: Checkpoints, callbacks: Sequence[Callback]) -> Result:
    """Trains from the state's step to the end of the run, evaluating and saving checkpoints on the way.

    A signal to stop (Ctrl-C, SIGTERM) ends the run after the current step, with a checkpoint of it.

    Args:
      run: the run.
      state: the state to train from; its buffers are donated.
      checkpoints: the checkpoints of the run, for the best score so far.
      callbacks: react to the events of the run; one of them saves the checkpoints.
    """
    plan, events, compiled = run.loop, Events(callbacks), compile_run(run, state)
    stored = run.data.load_cache() if run.data.load_cache else {}
    step, key, evaluation = int(state.step), run.loop.step_key, None
    batches = device_prefetch(run.data.iterate(run.data.train_batches, start=step), plan.mesh)
    log = StepLog(run.optim.schedule, batch_size=plan.batch_size)

    def write_log() -> None:
        if log:
            events.on_log(step, *log.read(step))

    events.on_start(run, state)
    with StopSignals() as signals:
        checkpoints.should_stop = lambda: bool(signals.received)
        stop = plan.should_stop(step, checkpoints.improved_step)
        while not stop:
            state, metrics = compiled.step(state, next(batches), key, stored)
            # The log is read only now, so that the device works on this step while the host reads earlier ones.
            if plan.should_log(step):
                write_log()
            step += 1
            log.add(metrics)
            events.on_step(step, metrics)
            scores = None
            # Evaluate before saving, so that each checkpoint has its scores and the best one can be kept.
            if plan.should_evaluate(step):
                write_log()
                evaluation = evaluate(run, compiled, state, num_images=plan.evaluation.images)
                scores = evaluation.scores
                events.on_evaluation(step, evaluation)
                log.restart_clock()
            is_best = scores is not None and checkpoints.is_best(scores)
            stop = bool(signals.received) or plan.should_stop(step, step if is_best else checkpoints.improved_step)
            # A failed save is noticed now, and replaced by a checkpoint of this step.
            has_failed = plan.should_log(step) and checkpoints.has_failed()
            if stop or is_best or has_failed or plan.should_save(step):
                # Reading the log waits for the steps and checks them, so that no state that is not finite is saved.
                write_log()
                events.on_checkpoint(step, state, scores)
    if evaluation is None and not signals.received:
        evaluation = evaluate(run, compiled, state, num_images=0)
    result = _result(run, state, checkpoints, evaluation, signals.received)
    events.on_end(result)
    return result


def _result(
    run: Run, state: TrainState, checkpoints: Checkpoints, evaluation: Evaluation | None, stopped_by: int
) -> Result:
    step = int(state.step)
    return Result(
        scores=evaluation.metrics if evaluation else None,
        class_names=run.data.evaluation.class_names,
        state=state,
        best_step=checkpoints.best_step,
        stopped_by=stopped_by,
        stopped_early=step < run.loop.total_steps and run.loop.should_stop_early(step, checkpoints.improved_step),
        skipped=run.data.bad_examples.messages,
    )
