"""The saves of a run without checkpoints."""

from collections.abc import Mapping
from typing import Any

from flaxseg.train.checkpoint_scores import CheckpointScores


class NoSaves:
    """Saves nothing, in place of `CheckpointSaves`, but keeps the scores of each state that would be saved.

    Args:
      scores: receives the scores.
    """

    step = None

    def __init__(self, scores: CheckpointScores) -> None:
        self._scores = scores
        self.manager = _NoManager()

    def begin(self, step: int, state: Any, scores: Mapping[str, float], counts: Mapping[str, int]) -> str:
        """Keeps the scores of a state; returns ""."""
        self._scores.add(step, scores)
        return ""

    def has_failed(self) -> bool:
        """Returns False."""
        return False

    def settle(self) -> str:
        """Returns ""."""
        return ""

    def join(self) -> str:
        """Returns ""."""
        return ""

    def delete_old(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class _NoManager:
    """Orbax's manager of a directory without checkpoints."""

    def latest_step(self) -> None:
        """Returns None."""

    def all_steps(self) -> list[int]:
        """Returns []."""
        return []

    def reload(self) -> None:
        """Does nothing."""
