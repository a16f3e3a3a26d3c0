"""Reads a trained network from a run or from an exported folder."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxseg.deploy.saved import read_model
from flaxseg.inference.description import ModelDescription
from flaxseg.models.protocol import Variables


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and what is known about its training.

    Attributes:
      variables: `params` and perhaps `batch_stats`, numpy arrays.
      description: how to build the network, its images and its classes.
      config: the configuration that it was trained with; empty if unknown.
      data: the number of examples of each split, by its name; empty if unknown.
      scores: those of its last evaluation, by name; empty if there was none.
      step: the training step; None if unknown.
    """

    variables: Variables
    description: ModelDescription
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, int] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    step: int | None = None


def read_trained(path: str | Path, *, step: int | None = None) -> TrainedNetwork:
    """Returns the network of a run or of an exported folder, and what is recorded beside it.

    Args:
      path: as for `read_model`.
      step: the step of the checkpoint; None: the best one, or the latest of a run without scores.

    Raises:
      WeightsError: there is nothing of this kind, or it is damaged.
      ArgumentError: `step` without checkpoints.
    """
    saved = read_model(path, step=step)
    folder = saved.config.parent if saved.config else Path(path).expanduser()
    return TrainedNetwork(
        variables=saved.variables,
        description=saved.description,
        config=_read_json(folder / "config.json"),
        data={name: split["examples"] for name, split in _read_json(folder / "data.json").items()},
        scores=_read_json(folder / "checkpoints" / str(saved.step) / "metrics" / "metrics"),
        step=saved.step,
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; empty if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
