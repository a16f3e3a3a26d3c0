"""The outcome of a run."""

import dataclasses

from flaxseg.inference.scoring import EvalMetrics
from flaxseg.train.step import TrainState


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a run: its final state, and its last evaluation.

    Attributes:
      scores: the metrics of the last evaluation; None for a run that was stopped before its first one, or has no
        evaluation.
      class_names: one name per class.
      state: the final state.
      best_step: the step of the best checkpoint, or, if none is saved, of the best evaluation; None if none has scores.
      best_score: the score of `best_step` that selects the best; None if none has scores.
      evaluated_step: the step of `scores`; None if there are none.
      stopped_by: the number of the signal that stopped the run; 0 if none did.
      stopped_early: whether early stopping ended the run.
      skipped: the error message of each skipped example.
      skipped_steps: number of steps that were skipped because they were not finite.
      rollbacks: number of times that the run returned to a checkpoint for the same reason.
    """

    scores: EvalMetrics | None
    class_names: tuple[str, ...]
    state: TrainState
    best_step: int | None
    best_score: float | None = None
    evaluated_step: int | None = None
    stopped_by: int = 0
    stopped_early: bool = False
    skipped: tuple[str, ...] = ()
    skipped_steps: int = 0
    rollbacks: int = 0

    def table(self) -> str:
        """Returns the last evaluation as text: a table of the classes, and one for each further metric."""
        if self.scores is None:
            return "no evaluation yet"
        return self.scores.table(self.class_names)
