"""Saves the network of a training loop of one's own, so that `flaxseg.load` opens it."""

import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxseg.data.masks.palette import default_palette
from flaxseg.data.types import Color, SegmentationDataset
from flaxseg.deploy.folder import FILES
from flaxseg.deploy.safetensors import DESCRIPTION, FILE_NAME, write_weights
from flaxseg.errors import ArgumentError, ExportError
from flaxseg.inference.description import ModelDescription, installed_versions, resolved_options
from flaxseg.inference.recipe import recipe_of
from flaxseg.models.arguments import plain_channel_values
from flaxseg.models.protocol import ModelWrapper, SegmentationModel, Variables
from flaxseg.train.step import TrainState

_MAX_NAMED = 3


def save(
    directory: str | Path,
    state: TrainState | Variables,
    *,
    model: SegmentationModel,
    classes: SegmentationDataset | Sequence[str],
    image_size: tuple[int, int],
    scale: float | None = None,
    channels: int = 3,
    palette: Sequence[Color] | None = None,
    name: str = "",
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a network's weights and its description to `model.safetensors` and `model.json`, for `flaxseg.load`.

    `load_pretrained` reads the weights, too. The optimizer's state is not written. If several processes train, call it
    in one of them, with arrays that it has wholly.

    Args:
      directory: the folder; created if it does not exist. Other files in it are left alone.
      state: the state of `train_step`, of which the moving average of the parameters is written if it has one, as
        `eval_step` scores it; or variables, `params` and perhaps `batch_stats`.
      model: the network, with or without `freeze` and `rematerialize`.
      classes: a dataset, for the names and colors of its classes, or one name per class.
      image_size: height and width that images are resized to before they are predicted, as for `eval_batches`; with
        `scale` the size of the windows in which they are predicted.
      scale: None resizes images to `image_size`. A number keeps aspect ratios, and multiplies the sides of every image,
        as for `eval_batches`.
      channels: number of channels of the images.
      palette: one color per class, `(red, green, blue)` in 0..255; None: those of the dataset, or the default ones.
      name: the network's name in MODELS, or `package.module:function` for a function that returns it. "" finds the name
        and the options of every network that flaxseg makes.
      options: with `name`, the options that it was made with, other than `num_classes`, `mean`, `std` and `dtype`.
      overwrite: replace the files of an earlier call.

    Returns:
      The folder.

    Raises:
      ArgumentError: neither a row of MODELS nor the `name` makes the network, the variables are not its own, or names
        or colors do not fit its classes.
      ExportError: the folder holds a network already, or cannot be written.
    """
    network = _unwrapped(model)
    folder, variables = Path(directory).expanduser(), _variables(state)
    description = _described(
        network,
        _recipe(network, name, options),
        class_names=tuple(classes.class_names if isinstance(classes, SegmentationDataset) else _names(classes)),
        palette=_palette(classes, palette),
        image_size=tuple(image_size) if isinstance(image_size, list) else image_size,
        channels=channels,
        resize="stretch" if scale is None else "keep",
        scale=1.0 if scale is None else float(scale),
    )
    _check_variables(network, variables, (1, *description.image_size, channels))
    _check_folder(folder, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as new:
            write_weights(Path(new), variables, description)
            for file in (FILE_NAME, DESCRIPTION):
                os.replace(Path(new) / file, folder / file)
    except OSError as error:
        raise ExportError(
            f"{folder}: cannot be written ({error.strerror}: {error.filename}); give a folder that can be written to, "
            "on a disk with enough space"
        ) from error
    return folder


def _unwrapped(model: Any) -> Any:
    while isinstance(model, ModelWrapper):
        model = model.model
    if not isinstance(model, SegmentationModel):
        raise ArgumentError("model", model, "must be the network itself, such as build_model returns it")
    return model


def _variables(state: Any) -> Variables:
    """Returns what evaluation uses of a state, or variables, as numpy arrays of float32."""
    if isinstance(state, TrainState):
        params = state.params if state.ema_params is None else state.ema_params
        given: Any = {"params": params, "batch_stats": state.batch_stats}
    elif isinstance(state, Mapping) and "params" in state:
        given = {key: state[key] for key in ("params", "batch_stats") if key in state}
    else:
        kind = f"a {type(state).__name__}" + (f" of {', '.join(map(str, state))}" if isinstance(state, Mapping) else "")
        raise ArgumentError("state", kind, "must be a TrainState, or variables: {'params': ..., 'batch_stats': ...}")
    return {
        key: jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(tree)) for key, tree in given.items() if tree
    }


def _recipe(network: Any, name: str, options: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    if name:
        return name, dict(options or {})
    if options:
        raise ArgumentError("options", options, "are those of a name; give name, too, or leave them out")
    if (recipe := recipe_of(network)) is None:
        raise ArgumentError(
            "model",
            type(network).__name__,
            "no row of flaxseg.models.MODELS makes this network, and flaxseg.load has to make it again; give "
            "name='package.module:function' for a function that returns it, whose keywords are num_classes, dtype and "
            "its options, and options={...}",
        )
    return recipe


def _described(network: Any, recipe: tuple[str, dict[str, Any]], **fields: Any) -> ModelDescription:
    """Returns the description of a network, after checking that it makes the same network again."""
    name, options = recipe
    description = ModelDescription(
        name=name,
        options=resolved_options(name, options),
        num_classes=network.num_classes,
        mean=plain_channel_values(network.mean),
        std=plain_channel_values(network.std),
        precision=jnp.dtype(getattr(network, "dtype", None) or jnp.float32).name,
        versions=installed_versions(),
        **fields,
    )
    # Through JSON, as flaxseg.load reads it.
    made = ModelDescription.from_json(description.to_json()).build()
    if made != network:
        raise ArgumentError(
            "options",
            options,
            f"{name} with these options makes another network than the one given as model"
            f"{_differences(made, network)}; give the options that it was made with",
        )
    return description


def _differences(made: Any, network: Any) -> str:
    if type(made) is not type(network):
        return f": a {type(made).__name__}, not a {type(network).__name__}"
    names = [key for key in getattr(network, "__dataclass_fields__", ()) if key not in ("parent", "name")]
    differing = [key for key in names if getattr(made, key) != getattr(network, key)]
    texts = [f"{key} is {getattr(made, key)!r}, not {getattr(network, key)!r}" for key in differing[:_MAX_NAMED]]
    return f": {', '.join(texts)}" if texts else ""


def _names(classes: Any) -> Sequence[str]:
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise ArgumentError("classes", classes, "must be a SegmentationDataset, or a sequence of one name per class")
    return classes


def _palette(classes: Any, palette: Sequence[Color] | None) -> tuple[Color, ...]:
    if palette is not None:
        return tuple(tuple(map(int, color)) for color in palette)  # type: ignore[misc]
    return classes.palette if isinstance(classes, SegmentationDataset) else default_palette(len(classes))


def _check_variables(network: Any, variables: Variables, shape: tuple[int, ...]) -> None:
    """Raises ArgumentError unless variables are those of a network."""
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    wanted = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), image)
    expected = _shapes({key: wanted[key] for key in ("params", "batch_stats") if key in wanted})
    given = _shapes(variables)
    wrong = [
        f"{path} is {given.get(path, 'missing')}, not {expected.get(path, 'an array of the network')}"
        for path in sorted(expected.keys() | given.keys())
        if given.get(path) != expected.get(path)
    ]
    if wrong:
        more = f", and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
        raise ArgumentError(
            "state",
            f"with {len(given)} arrays",
            f"is not of the network for images of {shape[-1]} channels: {'; '.join(wrong[:_MAX_NAMED])}{more}; give "
            "the network's own variables, and the channels of its images",
        )


def _shapes(variables: Variables) -> dict[str, list[int]]:
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    return {path: list(leaf.shape) for path, leaf in flat.items()}


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises ExportError if a network must not be written to a folder."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file; give a folder")
    own = (FILE_NAME, DESCRIPTION)
    others = [file for file in ("checkpoints", *FILES) if file not in own and (folder / file).exists()]
    there = [file for file in own if (folder / file).exists()]
    if others and there:
        raise ExportError(f"{folder}: is a run or an exported folder, with {', '.join(others)}; give another folder")
    if there and not overwrite:
        raise ExportError(
            f"{folder}: already holds {', '.join(there)}; give another folder, or overwrite=True to replace them"
        )
