"""Checks whether the arrays of a checkpoint are those that a run needs."""

from pathlib import Path
from typing import Any

from flaxseg.errors import CheckpointError
from flaxseg.models.pretrained.array_digests import leaves_by_path


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
    return {path: tuple(leaf.shape) for path, leaf in leaves_by_path(tree)}
