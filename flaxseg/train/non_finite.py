"""What was the first to be non-finite in a training step, and the error that stops a run there."""

import dataclasses
import math
from typing import Any, Self

import numpy as np

from flaxseg.errors import TrainingError
from flaxseg.train.step_check import KINDS, MEANING
from flaxseg.train.step_metrics import TrainMetrics

_MAX_LISTED = 16

_REMEDY = {
    "input": "Correct these images, your Source, or the augmentation that makes them so",
    "loss": "Look for an out-of-range label or an option of the loss that divides by 0, or use a lower "
    "config.optimizer.learning_rate or config.train.precision = 'float32'",
    "gradient": "Use a lower config.optimizer.learning_rate, more config.optimizer.warmup_steps, another loss, or "
    "config.train.precision = 'float32'",
    "update": "Use a lower config.optimizer.learning_rate, more config.optimizer.warmup_steps, or "
    "config.optimizer.grad_clip = 1.0",
}


@dataclasses.dataclass(frozen=True)
class NonFinite:
    """What was the first to be non-finite in a step.

    Attributes:
      step: the number of the step, from 1.
      kind: one of `KINDS`.
      rows: the positions in the batch of the images that are not finite.
      parts: the names of the losses that are not finite.
      values: loss, gradient norm, update norm and each loss by name.
    """

    step: int
    kind: str
    rows: tuple[int, ...]
    parts: tuple[str, ...]
    values: dict[str, float]

    @classmethod
    def in_metrics(cls, step: int, metrics: TrainMetrics) -> Self:
        """Returns the finding in the metrics of a step, on the host, whose `check.code` is that of a kind."""
        values = {name: value for name, value in metrics.compute().items() if name.startswith(("loss", "grad", "upd"))}
        parts = tuple(name for name, part in metrics.parts.items() if not math.isfinite(float(part.compute())))
        rows = np.flatnonzero(~np.asarray(metrics.check.finite_images)).tolist()
        return cls(step, KINDS[int(metrics.check.code) - 1], tuple(rows), parts, values)

    def describe(self, ids: tuple[str, ...] = ()) -> str:
        """Returns the finding in a sentence without a final period.

        Args:
          ids: the names of the examples of the batch; empty if they are unknown.
        """
        details = [f"{name} = {value:.4g}" for name, value in self.values.items()]
        if self.kind == "loss":
            which = " and ".join(self.parts) or "only the weighted sum"
            details.insert(0, f"not finite: {which}")
        text = f"step {self.step}: {MEANING[self.kind]} ({', '.join(details)})"
        if self.kind == "input":
            named = [ids[row] if row < len(ids) else f"number {row} of the batch" for row in self.rows]
            text += f". The images: {listed(named)}"
        return text + (f". The batch: {listed(ids)}" if ids else "")


class NonFiniteStep(TrainingError):
    """A step that was not taken because it is not finite.

    Attributes:
      finding: what was the first to be non-finite.
      state: the state before the step; None if it is unknown.
    """

    def __init__(self, finding: NonFinite, state: Any = None) -> None:
        super().__init__(f"{finding.describe()}. {_REMEDY[finding.kind]}")
        self.finding = finding
        self.state = state


def stopping_error(finding: NonFinite, ids: tuple[str, ...], record: str, reason: str = "") -> TrainingError:
    """Returns the error that ends a run, with everything that is known.

    Args:
      finding: what was the first to be non-finite.
      ids: the names of the examples of the batch; empty if they are unknown.
      record: a sentence about the file with the step.
      reason: a sentence about why the run does not continue, if it usually would.
    """
    sentences = [
        finding.describe(ids),
        record,
        reason or "The step was not taken; checkpoints of earlier steps are unchanged",
        _REMEDY[finding.kind] + "; or config.train.non_finite = 'skip' or 'rollback'",
    ]
    return TrainingError(". ".join(filter(None, sentences)))


def listed(names: Any) -> str:
    """Returns names separated by commas, the first 16 of them."""
    names = list(names)
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
