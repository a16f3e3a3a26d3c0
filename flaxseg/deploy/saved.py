"""Finds a trained network: in a run's directory, an exported folder, a file of weights, or a public repository."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.deploy.public_description import describe_public
from flaxseg.deploy.weights import dequantized
from flaxseg.errors import ArgumentError, WeightsError, did_you_mean
from flaxseg.inference.description import FILE_NAME, ModelDescription, read_description
from flaxseg.models.pretrained.checkpoints import best_step, checkpoint_directory, checkpoint_steps, read_checkpoint
from flaxseg.models.pretrained.files import read_weights, weight_shapes
from flaxseg.models.pretrained.licenses import print_license
from flaxseg.models.pretrained.load import own_arrays, put_arrays
from flaxseg.models.pretrained.public_source import is_public, open_public
from flaxseg.models.pretrained.repository import Repository, check_names_no_code
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


def read_model(path: str | Path, *, step: int | None = None, accept_license: bool = False) -> SavedModel:
    """Reads a trained network.

    Args:
      path: the directory of a run, of its checkpoints or of one of them; an exported folder, which holds model.json and
        model.safetensors; a file of weights beside a model.json; `hf:owner/name` or `hf:owner/name@revision` for a
        repository of the Hugging Face hub; a folder in the layout of segmentation_models_pytorch or transformers; or a
        file of torchvision's segmentation networks.
      step: the step of a run's checkpoint; None takes the best one, or the latest if none has scores.
      accept_license: accept a license of published weights that is non-commercial or custom.

    Raises:
      WeightsError: there is nothing of this kind, it cannot be downloaded, it is damaged, the weights are those of
        another network, or their license has to be accepted.
      ArgumentError: `step` without checkpoints.
    """
    if is_public(path):
        if step is not None:
            raise ArgumentError("step", step, f"{path} has no checkpoints; leave it out")
        return _from_public(str(path), accept_license=accept_license)
    place = Path(path).expanduser()
    if not place.exists():
        siblings = [str(each) for each in place.parent.glob("*") if _may_be_saved(each)]
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
        # A file that cannot be read is reported as such.
        weight_shapes(weights)
        raise WeightsError(
            f"{weights}: there is no {FILE_NAME} beside it, which describes the network; copy the one from its run or "
            "exported folder there, or write both with flaxseg.save. load_pretrained reads weights alone. Only "
            "segmentation checkpoints of torchvision need no description"
        )
    description, arrays = read_description(folder / FILE_NAME), read_weights(weights)
    filled = _fill(description, _own_arrays(arrays, str(weights)), str(weights))
    return SavedModel(str(path), description, *filled, folder=folder)


def _own_arrays(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    own = dequantized(own_arrays(arrays))
    if not own:
        raise WeightsError(
            f"{name}: does not name its arrays as flaxseg does (params/..., batch_stats/...), but "
            f"{next(iter(arrays), 'has none')!r}; start a run from it with config.model.pretrained instead"
        )
    return own


def _from_public(source: str, *, accept_license: bool) -> SavedModel:
    found = open_public(source, accept_license=accept_license)
    print_license(found.license, found.name)
    if isinstance(found, Repository):
        return _from_own_repository(found)
    description = describe_public(found)
    model = _build(description, found.name)
    arrays, unknown = found.arrays(model)
    return SavedModel(found.name, description, model, _put(description, model, arrays, found.name, unknown))


def _from_own_repository(repository: Repository) -> SavedModel:
    """Returns a network that was exported to a repository of the hub."""
    path = repository.find(FILE_NAME)
    assert path is not None
    description = read_description(path)
    check_names_no_code(description.name, repository.name)
    own = _own_arrays(repository.tensors(), repository.name)
    license = str(repository.license)
    described = dataclasses.replace(description, source=repository.origin, license=license)
    return SavedModel(repository.name, described, *_fill(description, own, repository.name))


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


def _may_be_saved(place: Path) -> bool:
    """Returns whether something may be a network, because it is a file, or a folder that looks like one."""
    return place.is_file() or (place / FILE_NAME).is_file() or bool(checkpoint_steps(place))


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
    description: ModelDescription, arrays: dict[str, np.ndarray], name: str
) -> tuple[SegmentationModel, dict[str, Any]]:
    """Returns the network that a description names, and its variables.

    Raises:
      WeightsError: the arrays are those of another network, or there is no such network.
    """
    model = _build(description, name)
    return model, _put(description, model, arrays, name)


def _build(description: ModelDescription, name: str) -> SegmentationModel:
    try:
        return description.build()
    except ArgumentError as error:
        raise WeightsError(f"{name}: its network cannot be built: {error}") from error


def _put(
    description: ModelDescription,
    model: SegmentationModel,
    arrays: dict[str, np.ndarray],
    name: str,
    unknown: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    image = jax.ShapeDtypeStruct((1, *description.image_size, description.channels), jnp.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    wanted = {collection: shapes[collection] for collection in ("params", "batch_stats") if collection in shapes}
    return put_arrays(wanted, arrays, unknown=unknown, name=name, partial=False)
