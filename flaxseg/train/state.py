"""The initial state of a run: restored from its latest checkpoint, pretrained, or freshly initialized."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from flaxseg.errors import ConfigError, WeightsError
from flaxseg.models.pretrained.encoder_weights import PUBLIC
from flaxseg.models.pretrained.load import load_pretrained
from flaxseg.models.pretrained.public_source import is_public
from flaxseg.models.protocol import Variables
from flaxseg.ops.platform import compiler_options
from flaxseg.report.console import print_line
from flaxseg.train.build import Run
from flaxseg.train.checkpoints import Checkpoints
from flaxseg.train.sharding import replicated, state_sharding
from flaxseg.train.step import TrainState, initial_variables

Loaded = Mapping[str, Any]
"""Variables: NumPy arrays where weights were loaded, and shapes where they have yet to be initialized."""


def restore_or_create(run: Run, checkpoints: Checkpoints, load: Callable[[], Loaded | None]) -> TrainState:
    """Returns the state of the latest checkpoint or of a new run, sharded over the mesh.

    Args:
      run: the run.
      checkpoints: its checkpoints.
      load: returns the weights of a new run; it is not called if there is a checkpoint that can be read.
    """
    restored = checkpoints.restore_latest(abstract_state(run))
    return create_state(run, load()) if restored is None else restored


def abstract_state(run: Run) -> Any:
    """Returns the shapes, types and shardings of the state of a run; computes nothing."""
    shapes, placement = _shapes_and_sharding(run)
    return jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, placement)


def create_state(run: Run, loaded: Loaded | None) -> TrainState:
    """Returns the state of a new run, sharded over the mesh.

    Args:
      run: the run.
      loaded: from `load_weights`; what is not loaded is initialized from the run's seed.
    """
    _, placement = _shapes_and_sharding(run)
    create, key = run.create_state, jax.random.key(run.loop.seed)
    if loaded is None or run.model.pretrained is None:
        return _run_once(create, placement)(key)
    _announce(loaded, run.model.pretrained.source)
    init = functools.partial(initial_variables, image=run.model.image, model=run.model.module)
    new = _run_once(init, replicated(run.loop.mesh))(key)
    variables = jax.tree.map(lambda value, own: value if _is_loaded(value) else own, loaded, dict(new))
    return _run_once(lambda key, variables: create(key, variables=variables), placement)(key, variables)


def _run_once(function: Callable[..., Any], placement: Any) -> Callable[..., Any]:
    return jax.jit(function, out_shardings=placement, compiler_options=compiler_options(runs_once=True))


def load_weights(run: Run) -> Loaded | None:
    """Returns the pretrained weights of a new run, or None if it has none. Writes nothing.

    Raises:
      ConfigError: a frozen parameter has no pretrained weights.
      WeightsError: the weights cannot be read or do not fit.
    """
    weights = run.model.pretrained
    if weights is None:
        return None
    loaded = load_source(
        run.model.variables,
        run.model.module,
        weights.published or weights.source,
        sha256=weights.sha256,
        partial=weights.partial,
        accept_license=weights.accept_license,
    )
    _check_frozen(run, loaded, weights.source)
    return loaded


def load_source(
    variables: Variables,
    model: nn.Module,
    source: str,
    *,
    sha256: str = "",
    partial: bool = False,
    accept_license: bool = False,
) -> dict[str, Any]:
    """Returns variables with the values of a weights file, a run, a checkpoint or a public network.

    Args:
      variables: `params` and perhaps `batch_stats` of the network, arrays or their shapes.
      model: the network.
      source: see `load_pretrained`.
      sha256: the expected SHA-256 of the file, or its first digits; "": not checked. A directory has none.
      partial: load the arrays that fit, and keep the others.
      accept_license: accept a license of a public network's weights that is non-commercial or custom.

    Raises:
      WeightsError: the weights cannot be read or do not fit, or a directory has no readable checkpoint.
    """
    path = Path(source).expanduser().absolute()
    if source != PUBLIC and not is_public(source) and not path.exists():
        raise WeightsError(
            f"config.model.pretrained = {source!r}: there is no file or directory {path}; give one, {PUBLIC!r}, or a "
            "public network, as in hf:owner/name"
        )
    return load_pretrained(variables, model, source, sha256=sha256, partial=partial, accept_license=accept_license)


def _shapes_and_sharding(run: Run) -> tuple[Any, Any]:
    shapes = jax.eval_shape(run.create_state, jax.eval_shape(jax.random.key, 0))
    return shapes, state_sharding(shapes, run.loop.mesh)


def _check_frozen(run: Run, loaded: Loaded, source: str) -> None:
    """Raises ConfigError if a frozen parameter was not loaded."""
    frozen = run.model.frozen
    params = traverse_util.flatten_dict(loaded["params"], sep="/")
    missing = [path for path, leaf in params.items() if frozen and frozen(path) and not _is_loaded(leaf)]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ConfigError(
            f"config.optimizer.freeze: covers {len(missing)} parameters that {source} has no weights for, so they "
            f"would keep their random initial values: {shown}; freeze fewer, or give weights for all of them"
        )


def _is_loaded(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray)


def _announce(variables: Loaded, source: str) -> None:
    """Prints how many arrays of each part of the network were loaded."""
    loaded: dict[str, list[bool]] = {}
    for path, leaf in traverse_util.flatten_dict(dict(variables["params"])).items():
        loaded.setdefault(path[0], []).append(_is_loaded(leaf))
    parts = ", ".join(f"{part} {sum(found)} of {len(found)}" for part, found in loaded.items())
    if jax.process_index() == 0:
        print_line(f"parameters loaded from {source}: {parts}")
