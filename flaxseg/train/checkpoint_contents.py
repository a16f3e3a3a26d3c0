"""Checks of a checkpoint before it is restored: that it is unchanged, and that it fits."""

from pathlib import Path
from typing import Any

import jax
from absl import logging

from flaxseg.errors import CheckpointError
from flaxseg.models.pretrained.manifest import Damaged, needs_manifest, read_manifest, verify


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


def check_fits(directory: Path, step: int, stored: Any, wanted: Any) -> None:
    """Checks that the arrays of a checkpoint have the names and shapes that a run needs.

    Args:
      directory: the directory of the checkpoints, for the message.
      step: the step of the checkpoint.
      stored: the tree of the arrays in the checkpoint, which have a `shape`.
      wanted: the tree of the arrays of the run.

    Raises:
      CheckpointError: they differ; the message lists both shapes.
    """
    there, here = _shapes(stored), _shapes(wanted)
    differing = [
        f"  {name}: {there.get(name, 'absent')} in the checkpoint, {here.get(name, 'absent')} in this run"
        # Parameters first: the arrays of the optimizer and the moving average differ along with them.
        for name in sorted(there.keys() | here.keys(), key=lambda name: (not name.startswith("params/"), name))
        if there.get(name) != here.get(name)
    ]
    if differing:
        more = [f"  and {len(differing) - 10} more"] if len(differing) > 10 else []
        raise CheckpointError(
            f"{directory}: the checkpoint of step {step} does not fit this configuration:\n"
            + "\n".join(differing[:10] + more)
            + "\nUse the configuration that it was trained with (config.json in the same run), or another --workdir"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    # Attributes, keys and indices look alike, because Orbax turns dataclasses and tuples into dicts and lists.
    return {
        "/".join(str(getattr(part, "name", getattr(part, "key", getattr(part, "idx", part)))) for part in path): tuple(
            leaf.shape
        )
        for path, leaf in paths
        if hasattr(leaf, "shape")
    }
