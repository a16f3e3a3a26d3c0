"""The directory of a run's checkpoints: which are complete, and the deletion of what is no longer needed."""

import itertools
import shutil
from collections.abc import Collection
from pathlib import Path

from flaxseg.models.pretrained.manifest import FILE, Damaged, Manifest, needs_manifest, read_manifest
from flaxseg.train.storage import RESERVE

_DELETED = ".deleted"
"""The suffix of a checkpoint that is being deleted, so that a killed run leaves none that looks complete."""

DAMAGED = ".damaged"
"""The suffix of a checkpoint that could not be restored and was set aside."""

_UNFINISHED = ".orbax-checkpoint-tmp"
"""The suffix of a checkpoint that Orbax is writing."""


def manifests(directory: Path) -> dict[int, Manifest]:
    """Returns the manifest of each checkpoint that has one, by step."""
    found = {}
    for step in steps(directory):
        try:
            manifest = read_manifest(directory / str(step))
        except Damaged:
            continue  # Noticed when it is to be restored.
        if manifest is not None:
            found[step] = manifest
    return found


def delete_old(directory: Path, *, complete: Collection[int], best: int | None, keep: int) -> list[int]:
    """Deletes all complete checkpoints but the latest and the best, and what failed or killed saves have left.

    What a killed save has left is set aside when the run is resumed, and deleted here once a checkpoint of the same
    step, or of a later one, is complete.

    Checkpoints without a manifest, of older versions, are deleted as well, once they are not among the latest.

    Args:
      directory: the directory of the checkpoints; no save must be under way.
      complete: the steps of the checkpoints that have a manifest.
      best: the step of the best; None if there is none.
      keep: number of latest checkpoints to keep.

    Returns:
      The steps of the complete checkpoints that were deleted.

    Raises:
      OSError: a checkpoint cannot be renamed.
    """
    there = sorted(complete)
    old = [step for step in there[:-keep] if step != best]
    # The latest of an older version fill the places that are left; `-0` would keep all of them.
    earlier = [step for step in steps(directory) if there and step < there[-1] and _has_no_manifest(directory, step)]
    for step in old + earlier[: max(len(earlier) - max(keep - len(there), 0), 0)]:
        delete(directory, step)
    for path in _never_completed(directory, until=max(there, default=-1)):
        path.rename(path.with_name(f"{path.name}{_DELETED}"))
    _remove_leftovers(directory)
    return old


def set_aside(directory: Path, step: int) -> str:
    """Renames a damaged checkpoint to a name that is not in use, which it returns.

    Raises:
      OSError: it cannot be renamed.
    """
    others = (f"{step}.{number}{DAMAGED}" for number in itertools.count(2))
    names = itertools.chain([f"{step}{DAMAGED}"], others)
    name = next(name for name in names if not (directory / name).exists())
    (directory / str(step)).rename(directory / name)
    return name


def delete(directory: Path, step: int) -> None:
    """Deletes a checkpoint, if it exists."""
    if (directory / str(step)).is_dir():
        # Renamed first: a killed run must not leave a part of it behind that looks like a checkpoint.
        (directory / str(step)).rename(directory / f"{step}{_DELETED}")


def delete_failed(directory: Path, step: int) -> None:
    """Deletes what a failed save has left of a checkpoint, as far as possible."""
    try:
        if _has_no_manifest(directory, step):
            delete(directory, step)
        _remove_leftovers(directory)
    except OSError:
        return  # It has no manifest, and is deleted after a later save.


def _remove_leftovers(directory: Path) -> None:
    for pattern in (f"*{_DELETED}", f"*{_UNFINISHED}*"):
        for left in directory.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
    (directory / RESERVE).unlink(missing_ok=True)


def _never_completed(directory: Path, *, until: int) -> list[Path]:
    """Returns the checkpoints without a manifest that were set aside, up to a step; saves of killed runs leave them."""
    named = [(path.name.partition(".")[0], path) for path in directory.glob(f"*{DAMAGED}")]
    found = [(int(step), path) for step, path in named if step.isdecimal()]
    return [path for step, path in found if step <= until and not (path / FILE).exists() and needs_manifest(path)]


def steps(directory: Path) -> list[int]:
    """Returns the step of each checkpoint, in ascending order; [] if the directory does not exist."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdecimal() and path.is_dir())


def _has_no_manifest(directory: Path, step: int) -> bool:
    return not (directory / str(step) / FILE).exists()
