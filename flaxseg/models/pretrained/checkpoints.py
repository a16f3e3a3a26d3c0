"""Reads the parameters in the checkpoints of a run, without its configuration and without changing its directory."""

import contextlib
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.array_digests import find_changed
from flaxseg.models.pretrained.json_text import parse_json
from flaxseg.models.pretrained.manifest import Damaged, read_manifest, verify


def checkpoint_directory(path: str | Path, *, step: int | None = None) -> Path:
    """Returns the directory of one checkpoint's state.

    Args:
      path: the directory of a run, of its checkpoints, or of one of them.
      step: the step of the checkpoint; None takes the latest.

    Raises:
      WeightsError: there is no checkpoint, or none of that step; the message lists the existing ones.
    """
    path = Path(path).absolute()
    if step is None and (path / "state").is_dir():
        return path / "state"
    steps = checkpoint_steps(path)
    if not steps and saves_none(path):
        raise WeightsError(
            f"{path}: its run saved no checkpoint (config.checkpoint.keep = 0), so its network was not kept; train "
            "again with config.checkpoint.keep of at least 1 and another --workdir"
        )
    if not steps:
        raise WeightsError(
            f"{path}: is a directory without a checkpoint; give the --workdir of a run, one of the folders in its "
            "checkpoints/, or a weights file"
        )
    if step is not None and step not in steps:
        raise WeightsError(f"{path}: has no checkpoint of step {step}; steps there: {', '.join(map(str, steps))}")
    return steps[max(steps) if step is None else step] / "state"


def checkpoint_steps(path: str | Path) -> dict[int, Path]:
    """Returns the directory of each checkpoint by its step, ascending; {} if there is none.

    Args:
      path: the directory of a run, or of its checkpoints.
    """
    for inner in (Path(path), Path(path) / "checkpoints"):
        found = [each for each in inner.glob("*") if each.name.isdigit() and (each / "state").is_dir()]
        if found:
            return {int(each.name): each for each in sorted(found, key=lambda each: int(each.name))}
    return {}


def saves_none(path: str | Path) -> bool:
    """Returns whether the configuration of a run says that it saves no checkpoints.

    Args:
      path: the directory of the run.
    """
    try:
        return parse_json((Path(path) / "config.json").read_text(encoding="utf-8"))["checkpoint"]["keep"] == 0
    except (OSError, ValueError, KeyError, TypeError):
        return False


def best_step(path: str | Path, metric: str) -> int | None:
    """Returns the step of the checkpoint with the highest score, the first of several; None if none has the score.

    Args:
      path: the directory of a run, or of its checkpoints.
      metric: the name of the score, such as `miou`.
    """
    scores = {step: _score(directory, metric) for step, directory in checkpoint_steps(path).items()}
    scored = {step: score for step, score in scores.items() if not math.isnan(score)}
    return max(scored, key=scored.__getitem__) if scored else None


def read_checkpoint(directory: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint by path, `params/...` and `batch_stats/...`.

    Its parameters are their moving average, if the checkpoint has one.

    Args:
      directory: from `checkpoint_directory`.

    Raises:
      WeightsError: the checkpoint is damaged.
    """
    import orbax.checkpoint as ocp  # It takes long to load.

    try:
        manifest = read_manifest(directory.parent)
        if manifest is not None:
            verify(directory.parent, manifest)
    except Damaged as error:
        raise WeightsError(f"{directory.parent}: is damaged ({error}); give another checkpoint of that run") from error
    try:
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            wanted = _parameters(handler.metadata(directory).tree)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            options = ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True)
            state = handler.restore(directory, args=options)
    # Orbax has no error type for damage; the type depends on the damaged file.
    except Exception as error:
        raise WeightsError(
            f"{directory}: this checkpoint cannot be read ({type(error).__name__}); give another one of that run"
        ) from error
    if manifest is not None and (changed := find_changed(state, manifest.arrays)):
        why = f"the values of {changed} are not those that were saved"
        raise WeightsError(f"{directory.parent}: is damaged ({why}); give another checkpoint of that run")
    params = state.get("ema_params") or state["params"]
    flat = traverse_util.flatten_dict({"params": params, "batch_stats": state.get("batch_stats") or {}}, sep="/")
    return {path: np.asarray(value) for path, value in flat.items()}


def _parameters(state: Any) -> dict[str, Any]:
    """Returns what inference needs of a state: not its optimizer, which is larger, nor parameters it replaces."""
    params = "ema_params" if state.get("ema_params") else "params"
    return {name: state[name] for name in (params, "batch_stats") if state.get(name)}


def _score(directory: Path, metric: str) -> float:
    try:
        manifest = read_manifest(directory)
    except Damaged:
        return math.nan
    return math.nan if manifest is None else manifest.scores.get(metric, math.nan)
