"""The scores of a run's checkpoints, and which of them is the best."""

import math
from collections.abc import Collection, Mapping


class CheckpointScores:
    """The scores of each complete checkpoint by step, and of the one that is being saved.

    Args:
      best_metric: the score whose highest value selects the best.
      scores: those of the checkpoints there are; empty for one that was not evaluated.

    Attributes:
      best: the step of the best checkpoint; None if none has scores.
      improved: the step of the best score, even if saving its checkpoint has failed since; None if there is none.
    """

    def __init__(self, best_metric: str, scores: Mapping[int, Mapping[str, float]]) -> None:
        self._best_metric = best_metric
        self._scores = dict(scores)
        self.best = self.improved = self._find_best()

    @property
    def steps(self) -> Collection[int]:
        """The steps of the checkpoints."""
        return self._scores.keys()

    def __getitem__(self, step: int) -> Mapping[str, float]:
        return self._scores.get(step, {})

    @property
    def best_score(self) -> float | None:
        """The best score; None if there is none."""
        return None if self.best is None else self._scores[self.best][self._best_metric]

    def is_best(self, scores: Mapping[str, float]) -> bool:
        """Returns whether these scores are better than those of every checkpoint; NaN never is."""
        score = scores[self._best_metric]
        if math.isnan(score) or self.best is None:
            return not math.isnan(score)
        return not score <= self._scores[self.best][self._best_metric]

    def add(self, step: int, scores: Mapping[str, float]) -> None:
        """Adds a checkpoint, with its scores, if it was evaluated."""
        if scores and self.is_best(scores):
            self.best = self.improved = step
        self._scores[step] = {name: float(score) for name, score in scores.items()}

    def remove(self, *steps: int) -> None:
        """Removes checkpoints."""
        for step in steps:
            self._scores.pop(step, None)
        self.best = self._find_best()

    def _find_best(self) -> int | None:
        """Returns the step with the highest score, the first of several; None if none has one."""
        found = {step: each.get(self._best_metric, math.nan) for step, each in sorted(self._scores.items())}
        found = {step: score for step, score in found.items() if not math.isnan(score)}
        return max(found, key=found.__getitem__) if found else None
