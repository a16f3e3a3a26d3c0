"""The training of one run, and its parts between the steps."""

import functools
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

from flaxseg.data.types import Batch
from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback, Events
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.compile import Call, Compiled, Inputs, Turn
from flaxseg.train.device_cache import Stored
from flaxseg.train.early_compilation import EarlyCompilation
from flaxseg.train.evaluation import Evaluation, EvaluationStopped, evaluate
from flaxseg.train.in_flight import InFlight
from flaxseg.train.lockstep import TakeStep, fit_members
from flaxseg.train.non_finite import NonFiniteStep
from flaxseg.train.recovery import SKIPPED, announce_skip
from flaxseg.train.result import Result
from flaxseg.train.sharding import device_prefetch, replicated
from flaxseg.train.step import TrainState
from flaxseg.train.step_log import StepLog
from flaxseg.train.supervision import Supervision
from flaxseg.train.training_data import training_data


def fit(
    run: Run,
    state: TrainState,
    checkpoints: Checkpoints,
    callbacks: Sequence[Callback],
    *,
    supervision: Supervision,
    compilation: EarlyCompilation,
) -> Result:
    """Trains from the state's step to the end of the run, evaluating and saving checkpoints on the way.

    Args:
      run: the run.
      state: the state to train from; its buffers are donated.
      checkpoints: the checkpoints of the run, for the best score so far.
      callbacks: react to the events of the run; one of them saves the checkpoints.
      supervision: ends the run after a step, or during an evaluation, with a checkpoint.
      compilation: the jitted functions of the run.

    Raises:
      NonFiniteStep: a step was not taken because it is not finite, and the plan of the run does not allow to skip it.
    """
    member = Member(run, state, checkpoints, callbacks, compiled=compilation.compiled, supervision=supervision)
    fit_members([member], one_by_one(compilation), supervision=supervision)
    return member.result()


def one_by_one(compilation: EarlyCompilation) -> TakeStep:
    """Returns a function that takes the next step of one run after another, in the same program."""

    def take_step(due: Sequence[Member]) -> list[Call]:
        calls = []
        for each in due:
            inputs = each.inputs()
            compilation.wait()  # Only after the first batches have been read, too.
            calls.append(compilation.compiled.train(*inputs))
        return calls

    return take_step


class Member:
    """A run between its steps, which something else takes: its data, its log, its evaluations and its checkpoints.

    Args:
      run: the run.
      state: the state to train from.
      checkpoints: the checkpoints of the run, for the best score so far.
      callbacks: react to the events of the run; one of them saves the checkpoints.
      compiled: the jitted functions of the run.
      supervision: abandons an evaluation.

    Attributes:
      run: the run.
      state: the latest state, whose buffers are donated to the next step.
      step: number of steps taken.
      has_ended: whether the run takes no further step.
      has_failed: whether it has ended because a step was not finite.
      repeats_evaluation: whether the run was stopped in the evaluation of its latest checkpoint, or killed before its
        scores were saved, so that it begins with this evaluation.
    """

    def __init__(
        self,
        run: Run,
        state: TrainState,
        checkpoints: Checkpoints,
        callbacks: Sequence[Callback],
        *,
        compiled: Compiled,
        supervision: Supervision,
    ) -> None:
        self.run = run
        self.state = state
        self.step = int(state.step)
        self._plan = run.loop
        self._checkpoints = checkpoints
        self._events = Events(callbacks)
        self._supervision = supervision
        checkpoints.should_stop = supervision.is_stopping
        self._compiled = compiled
        self._evaluation: Evaluation | None = None
        self._evaluated_step: int | None = None
        self._scores: Mapping[str, float] | None = None
        self._stopped_by = 0
        skipped = checkpoints.counts(self.step).get(SKIPPED, 0)
        self._skipped = jax.device_put(np.int32(skipped), replicated(run.loop.mesh))
        on_skip = functools.partial(announce_skip, run) if run.loop.faults.max_skipped else None
        self._log = StepLog(run.optim.schedule, batch_size=run.loop.call.batch_size, skipped=skipped, on_skip=on_skip)
        self._key = run.loop.step_key
        self._batches: Iterator[Batch] = iter(())
        self._in_flight = InFlight()
        self._is_first_call = True
        self._stored: Stored = {}
        self.has_ended = self._plan.should_stop(self.step, checkpoints.improved_step)
        self.has_failed = False
        self.repeats_evaluation = self._plan.should_evaluate(self.step) and checkpoints.lacks_scores(self.step)

    def start(self) -> None:
        """Opens the training data."""
        data, self._stored = training_data(self.run, self.state)
        k = self._plan.call.steps
        self._batches = device_prefetch(data.calls(start=self.step, steps=k), self._plan.mesh, is_stacked=k > 1)
        self._events.on_start(self.run, self.state)

    def inputs(self) -> Inputs:
        """Returns the arguments of the next call of the training program; waits for the batch."""
        turn = Turn(self.step, self._skipped, self._plan.faults.max_skipped)
        return Inputs(self.state, next(self._batches), self._key, self._stored, turn, self.run.optim.arguments)

    def receive(self, call: Call) -> None:
        """Takes over what the training program returned, which the devices may still be computing."""
        self.state, metrics, self._skipped = call
        # The log is read only now, so that the device works on this step while the host reads earlier ones.
        if self._plan.should_log(self.step):
            self._write_log()
        self.step += self._plan.call.steps
        metrics = metrics.of_losses(self.run.optim.arguments.loss_weights)
        self._log.add(metrics)
        self._events.on_step(self.step, metrics)
        self._in_flight.add(self._skipped)
        if self._is_first_call:
            self._log.leave_out()  # It took the time in which the run started.
            self._is_first_call = False

    def evaluate(self) -> None:
        """Evaluates the state if this is due, unless the run is stopped meanwhile."""
        self._scores = None
        # Evaluate before saving, so that each checkpoint has its scores and the best one can be kept.
        if not self._plan.should_evaluate(self.step):
            return
        self._write_log()
        should_stop = functools.partial(self._supervision.should_stop, self.step)
        try:
            self._evaluation = evaluate(
                self.run, self._compiled, self.state, shows_images=True, should_stop=should_stop
            )
        except EvaluationStopped:
            return
        self._evaluated_step = self.step
        self._events.on_evaluation(self.step, self._evaluation)
        self._log.restart_clock()
        self._scores = self._evaluation.scores

    def stop(self, signal: int) -> None:
        """Ends the run because of a signal, unless it has ended."""
        if not self.has_ended:
            self._stopped_by, self.has_ended = signal, True

    def save(self) -> None:
        """Ends the run if this was its last step, and saves the state if this is due."""
        step, plan, scores = self.step, self._plan, self._scores
        is_best = scores is not None and self._checkpoints.is_best(scores)
        best_step = step if is_best else self._checkpoints.improved_step
        is_complete = plan.should_stop(step, best_step) and (scores is not None or not plan.should_evaluate(step))
        if is_complete:
            self._stopped_by = 0  # By a signal in the last step, or in its evaluation: nothing is left to do.
        self.has_ended = self._stopped_by > 0 or plan.should_stop(step, best_step)
        # A failed save is noticed now, and replaced by a checkpoint of this step.
        has_failed = plan.should_log(step) and self._checkpoints.has_failed()
        if self.has_ended or is_best or has_failed or plan.should_save(step):
            # Reading the log waits for the steps and checks them, so that no state that is not finite is saved.
            self._write_log()
            self._events.on_checkpoint(step, self.state, scores)

    def fail(self) -> None:
        """Ends the run because a step was not finite."""
        self.has_ended = self.has_failed = True
        self._batches = iter(())  # Ends the threads that read them.

    def end(self) -> None:
        """Makes the result, once the run has ended."""
        self._batches = iter(())  # Ends the threads that read them.
        if self._evaluation is None and not self._stopped_by and self._plan.evaluation.every:
            self._evaluation = evaluate(self.run, self._compiled, self.state, shows_images=False)
            self._evaluated_step = self.step
        self._events.on_end(self.result())

    def result(self) -> Result:
        """Returns the result, once the run has ended."""
        step, evaluation = self.step, self._evaluation
        has_ended = step >= self._plan.total_steps
        return Result(
            scores=evaluation.metrics if evaluation else None,
            class_names=self.run.data.train.class_names,
            state=self.state,
            best_step=self._checkpoints.best_step,
            best_score=self._checkpoints.best_score,
            evaluated_step=self._evaluated_step,
            stopped_by=self._stopped_by,
            stopped_early=not has_ended and self._plan.should_stop_early(step, self._checkpoints.improved_step),
            skipped=self.run.data.bad_examples.messages,
            skipped_steps=self._log.skipped,
            rollbacks=self._plan.faults.rollbacks,
        )

    def _write_log(self) -> None:
        if not self._log:
            return
        try:
            self._events.on_log(self.step, *self._log.read(self.step))
        except NonFiniteStep as error:
            # The steps dispatched since then were not taken, so this is still the state before that step.
            error.state = self.state
            raise
