"""The checkpoints of a run: which ones are complete and undamaged, and which one is used for what."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tqdm

from flaxseg.data.memory import size_text
from flaxseg.deploy.saved import best_metric
from flaxseg.diagnosis.findings import Finding, Note, Problem, Row
from flaxseg.models.pretrained.checkpoints import best_step, saves_none
from flaxseg.models.pretrained.manifest import Damaged, Manifest, needs_manifest, read_manifest, verify

_CHECKPOINTS = "checkpoints"
_TEMPORARY = ".orbax-checkpoint-tmp"
_SHOWN_SCORES = 3
_BAR_BYTES = 2**28
"""Checkpoints of fewer bytes together are verified too fast for a progress bar."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been verified.

    Attributes:
      step: its step, after its folder's name.
      path: its folder.
      num_bytes: the size of its files.
      manifest: None if it has none, or one that cannot be read.
      damage: what is damaged; "" if nothing is.
    """

    step: int
    path: Path
    num_bytes: int
    manifest: Manifest | None
    damage: str = ""


def checkpoint_bytes(workdir: Path) -> int:
    """Returns the size of the largest checkpoint of a run; 0 if there is none."""
    return max((_size(path) for path in _folders(workdir)), default=0)


def latest_step(workdir: Path) -> int | None:
    """Returns the step of the latest checkpoint of a run, damaged or not; None if there is none."""
    return max((int(path.name) for path in _folders(workdir)), default=None)


def check_checkpoints(workdir: Path, *, is_in_use: bool) -> Iterator[Finding]:
    """Yields each checkpoint of a run, whether its files are those that were written, and what else lies beside them.

    Args:
      workdir: the directory of the run.
      is_in_use: whether a run is writing to it right now.
    """
    found = _verified(_folders(workdir))
    has_manifests = any(each.manifest or needs_manifest(each.path) for each in found)
    if not found:
        none = "this run saves no checkpoints (config.checkpoint.keep = 0), so it cannot be resumed"
        yield Note(none if saves_none(workdir) else "there are no checkpoints yet")
    for each in found:
        yield from _described(each, is_unfinished=is_in_use and each is found[-1], has_manifests=has_manifests)
    yield from _leftovers(workdir / _CHECKPOINTS, is_in_use=is_in_use)
    yield from _uses(workdir, [each for each in found if not each.damage and (each.manifest or not has_manifests)])


def _described(checkpoint: Checkpoint, *, is_unfinished: bool, has_manifests: bool) -> Iterator[Finding]:
    manifest, name = checkpoint.manifest, f"step {checkpoint.step}"
    state = "verified" if manifest and not checkpoint.damage else "not verified"
    scores = dict(manifest.scores) if manifest else {}
    shown = ", ".join(f"{key} {value:.4f}" for key, value in list(scores.items())[:_SHOWN_SCORES])
    more = ", ..." if len(scores) > _SHOWN_SCORES else ""
    yield Row(name, f"{size_text(checkpoint.num_bytes)}, {shown or 'not evaluated'}{more}; {state}")
    folder = f"{_CHECKPOINTS}/{checkpoint.step}"
    if checkpoint.damage:
        remedy = f"rename it to {checkpoint.step}.damaged, or delete it; resuming does so if it is the latest"
        yield Problem(f"{folder} is damaged: {checkpoint.damage}", remedy)
    elif manifest and manifest.step != checkpoint.step:
        remedy = "give the folder the number of that step"
        yield Problem(f"{folder} is the checkpoint of step {manifest.step} under another name", remedy)
    elif manifest is None and is_unfinished:
        yield Note(f"{folder} has no manifest yet, because it is being saved")
    elif manifest is None and has_manifests:
        remedy = "delete it; resuming sets it aside and uses the one before it"
        yield Problem(f"{folder} has no manifest, because it was not saved completely", remedy)
    elif manifest is None:
        yield Note(f"{folder} has no manifest, so damage cannot be noticed; an older version of flaxseg wrote it")


def _leftovers(directory: Path, *, is_in_use: bool) -> Iterator[Finding]:
    names = sorted(path.name for path in directory.glob("*") if not path.name.isdigit()) if directory.is_dir() else []
    for name in names:
        if name.endswith(".damaged"):
            size = size_text(_size(directory / name))
            yield Note(
                f"{_CHECKPOINTS}/{name} ({size}) was damaged and set aside; delete it when you have looked at it"
            )
        elif (name.endswith(".deleted") or _TEMPORARY in name) and not is_in_use:
            kind = "deletion" if name.endswith(".deleted") else "save"
            yield Note(f"{_CHECKPOINTS}/{name} is an unfinished {kind} of a run that was killed, and may be deleted")


def _uses(workdir: Path, usable: list[Checkpoint]) -> Iterator[Finding]:
    """Yields which checkpoints resuming and `flaxseg.load` would use.

    Args:
      workdir: the directory of the run.
      usable: the complete, undamaged checkpoints, by ascending step.
    """
    steps = [int(path.name) for path in _folders(workdir)]
    if steps:
        latest = f"step {usable[-1].step}" if usable else "none: the run would begin anew"
        yield Row("resuming uses", latest)
    if steps and not usable:
        yield Problem("no checkpoint can be resumed from", "restore the folder checkpoints/ from a copy")
    metric = best_metric(workdir)
    best = best_step(workdir, metric)
    loaded = max(steps, default=None) if best is None else best
    if loaded is None:
        return
    why = "the latest, as none was evaluated" if best is None else f"the best {metric}"
    yield Row("flaxseg.load uses", f"step {loaded} ({why})")
    if usable and loaded not in {each.step for each in usable}:
        remedy = f"flaxseg.load(..., step={usable[-1].step}), or delete {_CHECKPOINTS}/{loaded}"
        yield Problem(f"flaxseg.load would use step {loaded}, which is damaged or incomplete", remedy)


def _verified(folders: list[Path]) -> list[Checkpoint]:
    sizes = {path: _size(path) for path in folders}
    is_quick = sum(sizes.values()) < _BAR_BYTES
    # None: only in a terminal.
    with tqdm.tqdm(
        total=sum(sizes.values()), desc="verify", unit="B", unit_scale=True, disable=True if is_quick else None
    ) as bar:
        found = [_verify(path, sizes[path], bar.update) for path in folders]
    # A run may have deleted one meanwhile.
    return [checkpoint for checkpoint in found if checkpoint.path.is_dir()]


def _verify(path: Path, size: int, on_file: Callable[[int], Any]) -> Checkpoint:
    step, manifest, damage = int(path.name), None, ""
    try:
        manifest = read_manifest(path)
        if manifest is not None:
            verify(path, manifest, on_file=on_file)
        elif not (path / "state").is_dir():
            damage = "it has no folder `state`"
    except Damaged as error:
        damage = str(error)
    return Checkpoint(step, path, size, manifest, damage)


def _folders(workdir: Path) -> list[Path]:
    """Returns the folders of checkpoints, by ascending step."""
    found = [path for path in (workdir / _CHECKPOINTS).glob("*") if path.name.isdigit() and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def _size(path: Path) -> int:
    """Returns the size of the files below a folder, some of which may be deleted meanwhile."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total
