"""The training loop, and `train_and_evaluate`, which runs it as a configuration specifies."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from flaxseg.config.validate import config_key
from flaxseg.data.class_weights import write_class_weights
from flaxseg.report.metric_writers import check_writer
from flaxseg.report.tensorboard import Summaries
from flaxseg.train.build import Run, build
from flaxseg.train.callbacks import Callback, Events
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.compile import compile_run
from flaxseg.train.describe import describe
from flaxseg.train.evaluation import Evaluation, EvaluationStopped, evaluate
from flaxseg.train.lock import WorkdirLock
from flaxseg.train.parts.model import describe_model
from flaxseg.train.progress import ProgressBar
from flaxseg.train.result import Result
from flaxseg.train.sharding import device_prefetch
from flaxseg.train.state import load_weights, restore_or_create
from flaxseg.train.step import TrainState
from flaxseg.train.step_log import StepLog
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
    with Supervision() as supervision, WorkdirLock(directory) as lock:
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
    run = build(config, workdir=directory)
    with config_key("log"):
        check_writer(config.log.writer)
    load = functools.cache(functools.partial(load_weights, run))
    if not directory.has_checkpoint():
        load()  # Here, so that an error is raised before anything is written.
    description = describe_model(config, run.model, run.data.train)
    directory.claim(config, run.data.splits, description)
    plan = run.loop.checkpoints
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(directory.checkpoints, keep=plan.keep, best_metric=plan.best_metric)
        )
        state = restore_or_create(run, checkpoints, load)
        tables = describe(run, state, dataset=config.data.name, precision=config.train.precision)
        if run.optim.class_weights and jax.process_index() == 0:
            write_class_weights(directory.class_weights, run.optim.class_weights, run.data.train.class_names)
        summaries = stack.enter_context(Summaries(directory.path, run.data.evaluation, writer=config.log.writer))
        summaries.start(config.to_dict(), tables, step=int(state.step))
        writers = [
            stack.enter_context(ProgressBar(plan.best_metric)),
            SampleWriter(directory.samples, description),
            SummaryWriter(summaries, run.data.evaluation),
            MetricsWriter(directory.metrics, run.data.evaluation.class_names),
            HardestExamplesWriter(summaries, run.data.train),
            CheckpointWriter(checkpoints),
        ]
        return fit(run, state, checkpoints, [*guards, *writers, *callbacks], supervision=supervision)


def fit(
    run: Run,
    state: TrainState,
    checkpoints: Checkpoints,
    callbacks: Sequence[Callback],
    *,
    supervision: Supervision,
) -> Result:
    """Trains from the state's step to the end of the run, evaluating and saving checkpoints on the way.

    Args:
      run: the run.
      state: the state to train from; its buffers are donated.
      checkpoints: the checkpoints of the run, for the best score so far.
      callbacks: react to the events of the run; one of them saves the checkpoints.
      supervision: ends the run after a step, or during an evaluation, with a checkpoint.
    """
    loop = _Loop(run, state, checkpoints, Events(callbacks), supervision)
    with supervision.training(loop.step, stall_minutes=run.loop.faults.stall_minutes):
        return loop.run()


class _Loop:
    """The training loop: what `fit` does, with its state as attributes."""

    def __init__(
        self, run: Run, state: TrainState, checkpoints: Checkpoints, events: Events, supervision: Supervision
    ) -> None:
        self._run = run
        self._plan = run.loop
        self._state = state
        self._checkpoints = checkpoints
        self._events = events
        self._supervision = supervision
        self._compiled = compile_run(run, state)
        self._log = StepLog(run.optim.schedule, batch_size=run.loop.batch_size)
        self._evaluation: Evaluation | None = None
        self._stopped_by = 0
        self.step = int(state.step)

    def run(self) -> Result:
        """Trains to the end, and returns the result."""
        run, plan = self._run, self._plan
        stored = run.data.load_cache() if run.data.load_cache else {}
        batches = device_prefetch(run.data.iterate(run.data.train_batches, start=self.step), plan.mesh)
        key = plan.step_key
        self._events.on_start(run, self._state)
        stop = plan.should_stop(self.step, self._checkpoints.best_step)
        if plan.should_evaluate(self.step) and self._checkpoints.lacks_scores(self.step):
            # The run was stopped in this evaluation.
            stop = self._finish_step()
        while not stop:
            self._state, metrics = self._compiled.step(self._state, next(batches), key, stored)
            # The log is read only now, so that the device works on this step while the host reads earlier ones.
            if plan.should_log(self.step):
                self._write_log()
            self.step += 1
            self._log.add(metrics)
            self._events.on_step(self.step, metrics)
            stop = self._finish_step()
        if self._evaluation is None and not self._stopped_by:
            self._evaluation = evaluate(run, self._compiled, self._state, num_images=0)
        result = self._result()
        self._events.on_end(result)
        return result

    def _finish_step(self) -> bool:
        """Evaluates the state and saves it, where this is due; returns whether the run ends."""
        step, plan, scores = self.step, self._plan, None
        # Evaluate before saving, so that each checkpoint has its scores and the best one can be kept.
        if plan.should_evaluate(step):
            self._write_log()
            scores = self._evaluate()
        is_best = scores is not None and self._checkpoints.is_best(scores)
        if self._supervision.should_stop(step):
            self._stopped_by = self._supervision.signal
        stop = self._stopped_by > 0 or plan.should_stop(step, step if is_best else self._checkpoints.best_step)
        if stop or is_best or plan.should_save(step):
            # Reading the log waits for the steps and checks them, so that no state that is not finite is saved.
            self._write_log()
            self._events.on_checkpoint(step, self._state, scores)
        return stop

    def _evaluate(self) -> Mapping[str, float] | None:
        """Evaluates the state and returns its scores; None if the run is stopped meanwhile."""
        should_stop = functools.partial(self._supervision.should_stop, self.step)
        num_images = self._plan.evaluation.images
        try:
            self._evaluation = evaluate(
                self._run, self._compiled, self._state, num_images=num_images, should_stop=should_stop
            )
        except EvaluationStopped:
            return None
        self._events.on_evaluation(self.step, self._evaluation)
        self._log.restart_clock()
        return self._evaluation.scores

    def _write_log(self) -> None:
        if self._log:
            self._events.on_log(self.step, *self._log.read(self.step))

    def _result(self) -> Result:
        step, best_step, evaluation = self.step, self._checkpoints.best_step, self._evaluation
        return Result(
            scores=evaluation.metrics if evaluation else None,
            class_names=self._run.data.evaluation.class_names,
            state=self._state,
            best_step=best_step,
            stopped_by=self._stopped_by,
            stopped_early=step < self._plan.total_steps and self._plan.should_stop_early(step, best_step),
            skipped=self._run.data.bad_examples.messages,
        )
