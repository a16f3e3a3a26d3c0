"""The state that a run begins with: its latest checkpoint, or a new one, perhaps with weights from elsewhere."""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg.errors import ConfigError, WeightsError
from flaxseg.models.pretrained.load import load_pretrained, put_arrays
from flaxseg.optimizers.groups import split
from flaxseg.train import sharding
from flaxseg.train.build import Experiment
from flaxseg.train.checkpoints import CHECKPOINTS, Checkpoints
from flaxseg.train.step import TrainState, create_train_state, initial_variables

Loaded = Mapping[str, Any]
"""Variables: numpy arrays where weights were loaded, and shapes where they are still to be drawn."""


def load_start(experiment: Experiment, config: ConfigDict) -> Loaded | None:
    """Returns what a new run is to start from, None for nothing; reads it, and writes nothing.

    Raises:
      ConfigError: frozen parameters that there are no weights for.
      WeightsError: weights that do not fit.
    """
    wanted = config.model
    if not wanted.pretrained:
        if experiment.frozen is not None:
            raise ConfigError(
                f"config.model.pretrained = '': what config.optimizer.freeze = {tuple(config.optimizer.freeze)} covers "
                "would stay as it is drawn; give its weights, such as 'imagenet', or freeze nothing"
            )
        return None
    image = jax.ShapeDtypeStruct(experiment.image_shape, jnp.uint8)
    init = functools.partial(initial_variables, image=image, model=experiment.model)
    loaded = start_from(
        jax.eval_shape(init, jax.random.key(0)),
        experiment.model,
        wanted.pretrained,
        sha256=wanted.pretrained_sha256,
        partial=wanted.pretrained_partial,
    )
    _check_frozen(experiment, config, loaded)
    return loaded


def _check_frozen(experiment: Experiment, config: ConfigDict, loaded: Loaded) -> None:
    """Raises ConfigError where something that is frozen was not loaded."""
    _, fixed = split(loaded["params"], experiment.frozen)
    missing = [path for path, leaf in traverse_util.flatten_dict(fixed, sep="/").items() if not _is_loaded(leaf)]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ConfigError(
            f"config.optimizer.freeze = {tuple(config.optimizer.freeze)}: covers {len(missing)} parameters that "
            f"{config.model.pretrained} has no weights for, and that would stay as they are drawn: {shown}; freeze "
            "less, or give weights of all of it"
        )


def _is_loaded(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray)


def restore_or_create(
    experiment: Experiment, config: ConfigDict, checkpoints: Checkpoints, loaded: Loaded | None = None
) -> TrainState:
    """Returns the latest checkpoint's state, or a new one, placed on the mesh; with `loaded`, from load_start()."""
    shapes, placement = _shapes_and_placement(experiment)
    like = jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, placement)
    restored = checkpoints.restore_latest(like)
    # Where every checkpoint turned out to be damaged, the run is a new one after all.
    return create(experiment, config, loaded or load_start(experiment, config)) if restored is None else restored


def create(experiment: Experiment, config: ConfigDict, loaded: Loaded | None) -> TrainState:
    """Returns the state of a new run, placed on the mesh; with `loaded`, from load_start()."""
    _, placement = _shapes_and_placement(experiment)
    create, key = _creation(experiment), jax.random.key(config.seed)
    if loaded is None:
        return jax.jit(create, out_shardings=placement)(key)
    _announce(loaded, config.model.pretrained)
    image = jax.ShapeDtypeStruct(experiment.image_shape, jnp.uint8)
    init = functools.partial(initial_variables, image=image, model=experiment.model)
    new = jax.jit(init, out_shardings=sharding.replicated(experiment.mesh))(key)
    variables = jax.tree.map(lambda found, own: found if _is_loaded(found) else own, loaded, dict(new))
    return jax.jit(lambda key, variables: create(key, variables=variables), out_shardings=placement)(key, variables)


def _creation(experiment: Experiment) -> Callable[..., TrainState]:
    """Returns a function (key, variables=None) -> state."""
    return functools.partial(
        create_train_state,
        image=jax.ShapeDtypeStruct(experiment.image_shape, jnp.uint8),
        model=experiment.model,
        tx=experiment.tx,
        ema_decay=experiment.ema_decay,
        frozen=experiment.frozen,
    )


def _shapes_and_placement(experiment: Experiment) -> tuple[Any, Any]:
    shapes = jax.eval_shape(_creation(experiment), jax.random.key(0))
    return shapes, sharding.state_sharding(shapes, experiment.mesh)


def _announce(variables: Loaded, source: str) -> None:
    """Says on the terminal how much of each part of the network was loaded."""
    loaded: dict[str, list[bool]] = {}
    for path, leaf in traverse_util.flatten_dict(dict(variables["params"])).items():
        loaded.setdefault(path[0], []).append(_is_loaded(leaf))
    parts = ", ".join(f"{part} {sum(found)} of {len(found)}" for part, found in loaded.items())
    if jax.process_index() == 0:
        tqdm.write(f"parameters loaded from {source}: {parts}", file=sys.stderr)


def start_from(
    variables: Mapping[str, Any], model: nn.Module, source: str, *, sha256: str = "", partial: bool = False
) -> dict[str, Any]:
    """Returns variables with the values of `source` in the place of their own.

    Args:
      variables: `params` and perhaps `batch_stats`, arrays or their shapes.
      model: the network that they are of.
      source: as of models.pretrained.load_pretrained(), or the directory of a run, of its checkpoints, or of one of
        them. Of a run the latest checkpoint is taken, and the average of the parameters where there is one.
      sha256: as of load_pretrained(); a directory has none.
      partial: as of load_pretrained().

    Raises:
      WeightsError: as load_pretrained(), and for a directory without a checkpoint that can be read.
    """
    path = Path(source).expanduser().absolute()
    if source != "imagenet" and not path.exists():
        raise WeightsError(
            f"config.model.pretrained = {source!r}: there is no file or directory {path}; give one, or 'imagenet'"
        )
    if not path.is_dir():
        return load_pretrained(variables, model, source, sha256=sha256, partial=partial)
    directory = _checkpoint(path)
    return put_arrays(variables, _arrays(directory), name=str(directory), partial=partial)


def _checkpoint(directory: Path) -> Path:
    """Returns the directory of one checkpoint's state."""
    for inner in (directory, directory / CHECKPOINTS):
        if (inner / "state").is_dir():
            return inner / "state"
        steps = [path for path in inner.glob("*") if path.name.isdigit() and (path / "state").is_dir()]
        if steps:
            return max(steps, key=lambda path: int(path.name)) / "state"
    raise WeightsError(
        f"config.model.pretrained = {str(directory)!r}: is a directory without a checkpoint; give the --workdir of a "
        "run, one of the folders in its checkpoints/, or a weights file"
    )


def _arrays(directory: Path) -> dict[str, np.ndarray]:
    """Returns arrays by path, `params/...` and `batch_stats/...`."""
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            shapes = checkpointer.metadata(directory).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            state = checkpointer.restore(directory, restore_args=as_numpy)
    # Orbax has no error of its own for damage: what is raised depends on which file is affected.
    except Exception as error:
        raise WeightsError(
            f"{directory}: this checkpoint cannot be read ({type(error).__name__}); give another one of that run"
        ) from error
    params = state.get("ema_params") or state["params"]
    flat = traverse_util.flatten_dict({"params": params, "batch_stats": state.get("batch_stats") or {}}, sep="/")
    return {path: np.asarray(value) for path, value in flat.items()}
