"""What is recorded beside a saved network about its training, for its model card and for reports."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxseg.deploy.saved import SavedModel
from flaxseg.models.pretrained.manifest import Damaged, read_manifest

REPORT = "export.json"
"""The file of an exported folder that reports what was exported, and keeps the record of the training."""

_METRICS = "metrics.jsonl"
"""The file of a run with the numbers that it logged."""


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """What is known about the training of a network.

    Attributes:
      config: the configuration that it was trained with; empty if unknown.
      data: the number of examples of each split, by its name; empty if unknown.
      scores: those of its last evaluation, by name; empty if there was none.
      step: the training step; None if unknown.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, int] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    step: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the configuration and undefined scores, as JSON holds it."""
        # A score that is undefined is NaN, which JSON lacks.
        scores = {name: score for name, score in self.scores.items() if math.isfinite(score)}
        return {"data": dict(self.data), "scores": scores, "step": self.step}


def read_record(saved: SavedModel) -> TrainingRecord:
    """Returns what the run or the exported folder of a network records about its training.

    Args:
      saved: from `read_model`.
    """
    folder = saved.folder
    if folder is None:
        return TrainingRecord()
    config = _read_json(folder / "config.json")
    if saved.step is None:
        found = _read_json(folder / REPORT).get("training", {})
        return TrainingRecord(config, **{key: found[key] for key in ("data", "scores", "step") if key in found})
    return TrainingRecord(
        config=config,
        data={name: split["examples"] for name, split in _read_json(folder / "data.json").items()},
        scores=_scores(folder / "checkpoints" / str(saved.step)),
        step=saved.step,
    )


def read_curve(saved: SavedModel, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a number that a run logged, such as `train/loss`: steps int64[N] and values float64[N].

    Both are empty if the network comes from no run, or if the run did not log it. Rows that are damaged, and numbers
    that are not finite, are omitted.

    Args:
      saved: from `read_model`.
      name: the name of the number in `metrics.jsonl`.
    """
    found: dict[int, float] = {}
    try:
        text = "" if saved.config is None else (saved.config.parent / _METRICS).read_text("utf-8", "replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
            found[int(row["step"])] = float(row[name])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    finite = sorted((step, value) for step, value in found.items() if math.isfinite(value) and 0 <= step < 2**53)
    steps, values = zip(*finite, strict=True) if finite else ((), ())
    return np.array(steps, np.int64), np.array(values, np.float64)


def _scores(directory: Path) -> Mapping[str, float]:
    try:
        manifest = read_manifest(directory)
    except Damaged:
        return {}
    return {} if manifest is None else manifest.scores


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; empty if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
