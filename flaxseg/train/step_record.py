"""The record of one training step in a file: its batch, the state before it, and what is needed to run it again."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from flaxseg.config.files import config_of_record
from flaxseg.data.types import MAX_CLASSES
from flaxseg.errors import DataError, Range, WeightsError
from flaxseg.models.pretrained.npz_file import read_npz
from flaxseg.train.step import TrainState
from flaxseg.train.step_check import KINDS

_FORMAT = 1
_ABOUT, _BATCH, _STATE = "about", "batch/", "state/"


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """A training step, on the host.

    Attributes:
      step: the number of the step, from 1.
      kind: what was the first to be non-finite, one of `KINDS`.
      config: the configuration of the run.
      num_classes: number of classes.
      class_weights: one weight per class, for the losses that take class weights; None for equal weights.
      total_steps: number of steps of the run, which its learning rate depends on.
      rollbacks: number of times that the run had returned to a checkpoint.
      examples: the names of the examples of the batch.
      batch: the whole batch, before augmentation.
      state: the arrays of the state before the step by their paths, such as `params/head/kernel`.
    """

    step: int
    kind: str
    config: ConfigDict
    num_classes: int
    class_weights: tuple[float, ...] | None
    total_steps: int
    rollbacks: int
    examples: tuple[str, ...]
    batch: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]

    def state_like(self, like: TrainState) -> TrainState:
        """Returns the state before the step, as NumPy arrays.

        Args:
          like: a state of the same network and optimizer, as `jax.ShapeDtypeStruct`.

        Raises:
          DataError: an array is missing or has another shape.
        """

        def find(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
            value = self.state.get(_name(path))
            if value is None or value.shape != shape.shape or value.dtype.itemsize != shape.dtype.itemsize:
                found = "missing" if value is None else f"{value.dtype}{list(value.shape)}"
                raise DataError(
                    f"{_name(path)} is {found} in the record of a training step, but {shape.dtype}{list(shape.shape)} "
                    "in the network and optimizer of its configuration; use the version of flaxseg that wrote it"
                )
            # NumPy stores bfloat16 as bytes without a type.
            return value.view(shape.dtype)

        state: TrainState = jax.tree_util.tree_map_with_path(find, like)
        return state


def arrays_of_state(state: TrainState) -> dict[str, np.ndarray]:
    """Returns the arrays of a state on the host by their paths."""
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]}


def write_record(path: Path, record: StepRecord) -> None:
    """Writes a record to an NPZ file without pickled objects, whole or not at all; creates its directory.

    Raises:
      OSError: the file cannot be written.
    """
    skipped = ("config", "batch", "state")
    about = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name not in skipped}
    text = json.dumps({"format": _FORMAT, **about, "config": json.loads(record.config.to_json())})
    arrays = {_ABOUT: np.frombuffer(text.encode(), np.uint8)}
    arrays |= {_BATCH + name: value for name, value in record.batch.items()}
    arrays |= {_STATE + name: value for name, value in record.state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def read_record(path: str | Path) -> StepRecord:
    """Returns the record in a file.

    Raises:
      DataError: it is not the record of a training step, or damaged.
    """
    try:
        arrays = read_npz(Path(path))
        about = json.loads(arrays[_ABOUT].tobytes())
        if about.pop("format") != _FORMAT or about["kind"] not in KINDS:
            raise ValueError("another format")
        if about["num_classes"] not in Range(1, MAX_CLASSES, integer=True):
            raise ValueError(f"num_classes = {about['num_classes']}")
        image, label = (arrays[f"{_BATCH}{name}"] for name in ("image", "label"))
        if image.ndim != 4 or label.shape != image.shape[:3] or len(about["examples"]) != len(image):
            raise ValueError(f"image {image.shape}, label {label.shape}, {len(about['examples'])} examples")
        weights = about["class_weights"]
        about["class_weights"] = None if weights is None else tuple(weights)
        about |= {"config": config_of_record(about["config"], Path(path)), "examples": tuple(about["examples"])}
        return StepRecord(**about, batch=_below(arrays, _BATCH), state=_below(arrays, _STATE))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, WeightsError) as error:
        raise DataError(
            f"{path}: cannot be read as the record of a training step ({error}); give a file of the directory "
            "non_finite/ of a run"
        ) from error


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
