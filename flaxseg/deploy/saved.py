"""Finds a trained network on the disk: in a run's directory, an exported folder, or a file of weights."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.deploy.weights import dequantized
from flaxseg.errors import ArgumentError, WeightsError, did_you_mean
from flaxseg.inference.description import FILE_NAME, ModelDescription, read_description
from flaxseg.models.pretrained.checkpoints import best_step, checkpoint_directory, checkpoint_steps, read_checkpoint
from flaxseg.models.pretrained.files import read_weights
from flaxseg.models.pretrained.load import own_arrays, put_arrays
from flaxseg.models.protocol import SegmentationModel, Variables

WEIGHTS_NAME = "model.safetensors"
"""The name of the file of weights in an exported folder."""


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A trained network, read from the disk.

    Attributes:
      name: where it comes from, such as `runs/pet (step 700)`, for messages and tables.
      description: what it needs besides its weights.
      model: the network.
      variables: its `params` and perhaps `batch_stats`, numpy arrays of float32.
      step: the step of its checkpoint; None if it does not come from a checkpoint.
      config: the `config.json` of its run; None if it does not come from a run.
      folder: the directory of its run, or its exported folder, which may hold records of its training.
    """

    name: str
    description: ModelDescription
    model: SegmentationModel
    variables: Variables
    step: int | None = None
    config: Path | None = None
    folder: Path | None = None

    def digest(self) -> str:
        """Returns a digest of the description and the weights, 32 hexadecimal digits."""
        digest = hashlib.blake2b(self.description.to_json().encode(), digest_size=16)
        for path, value in sorted(traverse_util.flatten_dict(dict(self.variables), sep="/").items()):
            digest.update(f"{path} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()


def read_model(path: str | Path, *, step: int | None = None) -> SavedModel:
    """Reads a trained network.

    Args:
      path: the directory of a run, of its checkpoints or of one of them; an exported folder, which holds model.json and
        model.safetensors; or a file of weights beside a model.json.
      step: the step of a run's checkpoint; None takes the best one, or the latest if none has scores.

    Raises:
      WeightsError: there is nothing of this kind, it is damaged, or the weights are those of another network.
      ArgumentError: `step` without checkpoints.
    """
    place = Path(path).expanduser()
    if not place.exists():
        siblings = [str(each) for each in place.parent.glob("*")] if place.parent.is_dir() else []
        raise WeightsError(
            f"{path}: does not exist{did_you_mean(str(place), siblings)}; give the directory of a run, an exported "
            "folder, or a file of weights"
        )
    folder = place if place.is_dir() else place.parent
    weights = place if place.is_file() else folder / WEIGHTS_NAME
    if place.is_dir() and not weights.is_file():
        return _from_run(place, step)
    if step is not None:
        raise ArgumentError("step", step, f"{path} has no checkpoints; leave it out, or give the directory of a run")
    if not (folder / FILE_NAME).is_file():
        raise WeightsError(
            f"{weights}: there is no {FILE_NAME} beside it, which describes the network; copy the one from its run or "
            "exported folder there"
        )
    description, arrays = read_description(folder / FILE_NAME), read_weights(weights)
    own = dequantized(own_arrays(arrays))
    if not own:
        raise WeightsError(
            f"{weights}: does not name its arrays as flaxseg does (params/..., batch_stats/...), but "
            f"{next(iter(arrays), 'has none')!r}; start a run from it with config.model.pretrained instead"
        )
    return SavedModel(str(path), description, *_fill(description, own, str(weights)), folder=folder)


def _from_run(place: Path, step: int | None) -> SavedModel:
    run = next((each for each in (place, *place.absolute().parents[:2]) if (each / FILE_NAME).is_file()), None)
    if run is None:
        raise WeightsError(_not_a_run(place))
    is_checkpoint = (place / "state").is_dir()
    if is_checkpoint and step is not None:
        raise ArgumentError("step", step, f"{place} is one checkpoint; give the directory of its run")
    if not is_checkpoint and step is None:
        step = best_step(place, best_metric(run))
    directory = checkpoint_directory(place, step=step)
    description = read_description(run / FILE_NAME)
    found = int(directory.parent.name) if directory.parent.name.isdigit() else None
    config = run / "config.json"
    return SavedModel(
        f"{run} (step {found})" if found is not None else str(place),
        description,
        *_fill(description, read_checkpoint(directory), str(directory)),
        step=found,
        config=config if config.is_file() else None,
        folder=run,
    )


def _not_a_run(place: Path) -> str:
    if checkpoint_steps(place) or (place / "state").is_dir():
        return (
            f"{place}: has checkpoints, but no {FILE_NAME} that describes the network, because an older version of "
            "flaxseg trained it; repeat the command that trained it, which writes the file and trains nothing further"
        )
    found = ", ".join(sorted(each.name for each in place.iterdir())[:10]) or "nothing"
    return (
        f"{place}: is neither the directory of a run nor an exported folder ({FILE_NAME} and {WEIGHTS_NAME}); it "
        f"contains {found}"
    )


def best_metric(run: Path) -> str:
    """Returns the name of the score that a run selects its best checkpoint by.

    Args:
      run: the directory of the run.
    """
    try:
        return str(json.loads((run / "config.json").read_text(encoding="utf-8"))["checkpoint"]["best_metric"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "miou"


def _fill(
    description: ModelDescription, arrays: Mapping[str, np.ndarray], name: str
) -> tuple[SegmentationModel, dict[str, Any]]:
    """Returns the network that a description names, and its variables.

    Raises:
      WeightsError: the arrays are those of another network, or there is no such network.
    """
    try:
        model = description.build()
    except ArgumentError as error:
        raise WeightsError(f"{name}: its network cannot be built: {error}") from error
    image = jax.ShapeDtypeStruct((1, *description.image_size, description.channels), jnp.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    wanted = {collection: shapes[collection] for collection in ("params", "batch_stats") if collection in shapes}
    return model, put_arrays(wanted, arrays, name=name, partial=False)
