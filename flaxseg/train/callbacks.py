"""The events of the training loop, and the base class of the callbacks that react to them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from flaxseg.train.build import Run
from flaxseg.train.evaluation import Evaluation
from flaxseg.train.result import Result
from flaxseg.train.step import TrainState
from flaxseg.train.step_metrics import TrainMetrics


class Callback:
    """Reacts to the events of a run; every method does nothing unless a subclass overrides it.

    Callbacks are called in the order in which they are given, in every process, and in the thread that trains. An
    exception in one ends the run, as an error of the run itself would: the latest checkpoint stays.
    """

    def on_start(self, run: Run, state: TrainState) -> None:
        """Called before the first step; `state.step` is above 0 in a resumed run.

        Called again when the run has returned to a checkpoint because of a step that was not finite.
        """

    def on_step(self, step: int, metrics: TrainMetrics) -> None:
        """Called after each step has been dispatched. Reading `metrics` here makes the host wait for the device.

        With train.steps_per_call > 1, it is called after that many steps; `step` is the last of them, and the arrays of
        `metrics` have a leading axis of steps.

        A step that turns out not to be finite, or to come after such a step, changes nothing; see `StepCheck`.
        """

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        """Called every few steps with averages since the last call, usually after the next step has been dispatched.

        Args:
          step: the last of the steps averaged over.
          scalars: averages by name, the learning rate at `step`, and the throughput.
          metrics: the merged metrics of these steps, on the host.
        """

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Called after each evaluation, before the checkpoint of its step."""

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        """Called when a checkpoint is due; `scores` are those of this state, None if it was not evaluated.

        The buffers of `state` are donated to the next step: copy what is to outlive the call. With checkpoint.keep = 0,
        it is called at the same steps.
        """

    def on_end(self, result: Result) -> None:
        """Called once after the last step, also if a signal stops the run, but not if an exception ends it."""

    def on_error(self, error: BaseException) -> None:
        """Called instead of `on_end` if an exception ends the run, perhaps before `on_start`; `error` is raised again.

        Not called when the run returns to a checkpoint, or when a process is ended at once.
        """


@contextlib.contextmanager
def reporting_errors(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Calls `on_error` of callbacks where an exception ends its `with` block; what they raise is added as a note."""
    try:
        yield
    except BaseException as error:
        report_error(callbacks, error)
        raise


def report_error(callbacks: Sequence[Callback], error: BaseException) -> None:
    """Calls `on_error` of callbacks; what they raise is added to the error as a note."""
    for callback in callbacks:
        try:
            callback.on_error(error)
        except Exception as problem:
            error.add_note(f"{type(callback).__name__}.on_error raised {type(problem).__name__}: {problem}")


class Events(Callback):
    """Passes each event on to several callbacks, in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_start(self, run: Run, state: TrainState) -> None:
        for callback in self._callbacks:
            callback.on_start(run, state)

    def on_step(self, step: int, metrics: TrainMetrics) -> None:
        for callback in self._callbacks:
            callback.on_step(step, metrics)

    def on_log(self, step: int, scalars: Mapping[str, float], metrics: TrainMetrics) -> None:
        for callback in self._callbacks:
            callback.on_log(step, scalars, metrics)

    def on_evaluation(self, step: int, evaluation: Evaluation) -> None:
        for callback in self._callbacks:
            callback.on_evaluation(step, evaluation)

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        for callback in self._callbacks:
            callback.on_checkpoint(step, state, scores)

    def on_end(self, result: Result) -> None:
        for callback in self._callbacks:
            callback.on_end(result)
