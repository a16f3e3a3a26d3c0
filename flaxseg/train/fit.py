"""The training loop."""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from flaxseg.train.build import Run
from flaxseg.train.callbacks import Callback, Events
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.compile import Turn
from flaxseg.train.early_compilation import EarlyCompilation
from flaxseg.train.evaluation import Evaluation, EvaluationStopped, evaluate
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
    loop = _Loop(run, state, checkpoints, Events(callbacks), supervision, compilation)
    with supervision.training(loop.step, stall_minutes=run.loop.faults.stall_minutes):
        return loop.run()


class _Loop:
    """The training loop, with its state as attributes."""

    def __init__(
        self,
        run: Run,
        state: TrainState,
        checkpoints: Checkpoints,
        events: Events,
        supervision: Supervision,
        compilation: EarlyCompilation,
    ) -> None:
        self._run = run
        self._plan = run.loop
        self._state = state
        self._checkpoints = checkpoints
        self._events = events
        self._supervision = supervision
        checkpoints.should_stop = supervision.is_stopping
        self._compilation = compilation
        self._compiled = compilation.compiled
        self._evaluation: Evaluation | None = None
        self._stopped_by = 0
        self.step = int(state.step)
        skipped = checkpoints.counts(self.step).get(SKIPPED, 0)
        self._skipped = jax.device_put(np.int32(skipped), replicated(run.loop.mesh))
        on_skip = functools.partial(announce_skip, run) if run.loop.faults.max_skipped else None
        self._log = StepLog(run.optim.schedule, batch_size=run.loop.call.batch_size, skipped=skipped, on_skip=on_skip)

    def run(self) -> Result:
        """Trains to the end, and returns the result."""
        run, plan = self._run, self._plan
        k = plan.call.steps
        data, stored = training_data(run, self._state)
        batches = device_prefetch(data.calls(start=self.step, steps=k), plan.mesh, is_stacked=k > 1)
        key = plan.step_key
        self._events.on_start(run, self._state)
        stop = plan.should_stop(self.step, self._checkpoints.improved_step)
        if plan.should_evaluate(self.step) and self._checkpoints.lacks_scores(self.step):
            # The run was stopped in this evaluation, or killed before its scores were saved.
            stop = self._finish_step()
        while not stop:
            turn = Turn(self.step, self._skipped, plan.faults.max_skipped)
            batch = next(batches)
            self._compilation.wait()  # Only after the first batches have been read, too.
            self._state, metrics, self._skipped = self._compiled.train(self._state, batch, key, stored, turn)
            # The log is read only now, so that the device works on this step while the host reads earlier ones.
            if plan.should_log(self.step):
                self._write_log()
            self.step += k
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
        stop = self._stopped_by > 0 or plan.should_stop(step, step if is_best else self._checkpoints.improved_step)
        # A failed save is noticed now, and replaced by a checkpoint of this step.
        has_failed = plan.should_log(step) and self._checkpoints.has_failed()
        if stop or is_best or has_failed or plan.should_save(step):
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
        if not self._log:
            return
        try:
            self._events.on_log(self.step, *self._log.read(self.step))
        except NonFiniteStep as error:
            # The steps dispatched since then were not taken, so this is still the state before that step.
            error.state = self._state
            raise

    def _result(self) -> Result:
        step, evaluation = self.step, self._evaluation
        has_ended = step >= self._plan.total_steps
        return Result(
            scores=evaluation.metrics if evaluation else None,
            class_names=self._run.data.evaluation.class_names,
            state=self._state,
            best_step=self._checkpoints.best_step,
            stopped_by=self._stopped_by,
            stopped_early=not has_ended and self._plan.should_stop_early(step, self._checkpoints.improved_step),
            skipped=self._run.data.bad_examples.messages,
            skipped_steps=self._log.skipped,
            rollbacks=self._plan.faults.rollbacks,
        )
