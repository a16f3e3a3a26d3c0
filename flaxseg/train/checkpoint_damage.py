"""Damage to checkpoints: every process of a run finds the same, and what is damaged is set aside."""

from pathlib import Path
from typing import Any

import jax
from absl import logging

from flaxseg.errors import CheckpointError
from flaxseg.models.pretrained.array_digests import find_changed
from flaxseg.models.pretrained.manifest import Damaged, needs_manifest, read_manifest, verify
from flaxseg.train import checkpoint_files as files
from flaxseg.train.background_save import Manager
from flaxseg.train.checkpoint_scores import CheckpointScores
from flaxseg.train.processes import first_message


def check_unchanged(directory: Path, *, others_have_manifests: bool) -> None:
    """Checks that a checkpoint is complete and unchanged.

    Args:
      directory: the directory of the checkpoint.
      others_have_manifests: whether other checkpoints have a manifest, so that one without is not of an older version.

    Raises:
      Damaged: it is not; the message names the file.
    """
    manifest = read_manifest(directory)
    if manifest is not None:
        verify(directory, manifest)
    elif others_have_manifests or needs_manifest(directory):
        raise Damaged("has no manifest, because it was not saved completely")
    else:
        logging.warning("%s: has no manifest, so that damage to it would not be noticed", directory)


def find_damage(directory: Path, step: int, scores: CheckpointScores) -> Damaged | None:
    """Returns the damage to a checkpoint that any of the processes finds, in all of them; None if there is none.

    Args:
      directory: the directory of the checkpoints.
      step: the step of the checkpoint.
      scores: the scores of the checkpoints that have a manifest.
    """
    problem = ""
    try:
        check_unchanged(directory / str(step), others_have_manifests=bool(scores.steps))
    except Damaged as error:
        problem = str(error)
    problem = first_message(problem)
    return Damaged(problem) if problem else None


def find_changed_array(directory: Path, step: int, state: Any) -> Damaged | None:
    """Returns the damage if an array is not the one that was saved, in all processes; None if there is none.

    Args:
      directory: the directory of the checkpoints.
      step: the step of the checkpoint.
      state: the arrays as they were restored.
    """
    manifest = read_manifest(directory / str(step))
    changed = first_message(find_changed(state, manifest.arrays) if manifest else "")
    return Damaged(f"{changed}: its values are not those that were saved") if changed else None


def set_aside(directory: Path, step: int, error: Exception, scores: CheckpointScores) -> None:
    """Renames a checkpoint that cannot be restored, and says why it cannot.

    Args:
      directory: the directory of the checkpoints.
      step: the step of the checkpoint.
      error: why it cannot be restored.
      scores: the scores of the checkpoints, from which its own are removed.

    Raises:
      CheckpointError: it cannot be renamed.
    """
    problem = ""
    if jax.process_index() == 0:
        why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        what = f"{directory}: the checkpoint of step {step} cannot be read ({why})"
        try:
            logging.error("%s; renamed to %s", what, files.set_aside(directory, step))
        except OSError as failure:
            problem = f"{what}, nor renamed ({failure.strerror}); make its directory writable, or move it away"
    if problem := first_message(problem):
        raise CheckpointError(problem)
    scores.remove(step)


def open_manager(directory: Path, scores: CheckpointScores) -> Manager:
    """Returns Orbax's manager, which reads the metadata of every checkpoint; damaged ones are set aside.

    Args:
      directory: the directory of the checkpoints; created if it does not exist.
      scores: the scores of the checkpoints, from which those of damaged ones are removed.

    Raises:
      CheckpointError: a checkpoint of an older version, which has no manifest, cannot be read.
    """
    try:
        return Manager(directory)
    # Orbax has no error type for damage.
    except Exception as error:
        damaged = {step: damage for step in files.steps(directory) if (damage := find_damage(directory, step, scores))}
        if not damaged:
            problem = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{directory}: Orbax cannot read these checkpoints ({problem}); move the damaged one away, or give "
                "another --workdir"
            ) from error
        for step, damage in damaged.items():
            set_aside(directory, step, damage, scores)
        return Manager(directory)
