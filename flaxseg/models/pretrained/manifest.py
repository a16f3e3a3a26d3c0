"""The manifest of a checkpoint: the size and the SHA-256 of each of its files, and of its arrays, and its scores.

A checkpoint whose files differ from its manifest is damaged. One without a manifest is incomplete, because the manifest
is written last, once every file has reached the disk, unless an older version wrote it: see `MARK`.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flaxseg.models.pretrained.array_digests import ArrayDigests

FILE = "manifest.json"
_FORMAT = 1

MARK = {"has_manifest": True}
"""What Orbax stores with each checkpoint as its custom metadata. One without it is older than manifests."""

_METADATA = "_CHECKPOINT_METADATA"


class Damaged(Exception):
    """A checkpoint is damaged; the message says which file, and how."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What the manifest of a checkpoint records.

    Attributes:
      step: the step of the checkpoint.
      scores: the scores of its state by name; empty if it was not evaluated.
      files: for each file, by its path below the directory of the checkpoint, its size and its SHA-256.
      counts: numbers by name that belong to the run and not to its state, such as that of its skipped steps.
      arrays: the digest of each array; empty for a checkpoint of an older version.
    """

    step: int
    scores: Mapping[str, float]
    files: Mapping[str, tuple[int, str]]
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    arrays: ArrayDigests = dataclasses.field(default_factory=dict)


def write_manifest(
    directory: Path,
    *,
    step: int,
    scores: Mapping[str, float],
    counts: Mapping[str, int] | None = None,
    arrays: ArrayDigests | None = None,
) -> None:
    """Writes the manifest of a checkpoint durably, after its files.

    Args:
      directory: the directory of the checkpoint.
      step: its step.
      scores: the scores of its state; empty if it was not evaluated.
      counts: see `Manifest`.
      arrays: see `Manifest`.

    Raises:
      OSError: a file cannot be read, or the manifest cannot be written.
    """
    files = {path.relative_to(directory).as_posix(): _record(path) for path in _files(directory)}
    for folder in (*directory.rglob("*/"), directory.parent):
        _sync(folder)
    _write(directory, Manifest(step, scores, files, counts or {}, arrays or {}))


def add_scores(directory: Path, scores: Mapping[str, float]) -> None:
    """Replaces the scores in the manifest of a checkpoint; what it records of the files stays as it was written.

    Args:
      directory: the directory of the checkpoint.
      scores: the scores of its state.

    Raises:
      Damaged: it has no manifest that can be read.
      OSError: the manifest cannot be written.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise Damaged(f"{FILE}: is missing")
    _write(directory, dataclasses.replace(manifest, scores=scores))


def needs_manifest(directory: Path) -> bool:
    """Returns whether a checkpoint was saved by a version that writes manifests."""
    try:
        metadata = json.loads((directory / _METADATA).read_text(encoding="utf-8"))
        return bool(metadata["custom_metadata"].items() >= MARK.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def read_manifest(directory: Path) -> Manifest | None:
    """Returns the manifest of a checkpoint; None if it has none.

    Raises:
      Damaged: the manifest cannot be read, or is not what was written.
    """
    path = directory / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest")
        if digest != _digest(content) or content["format"] != _FORMAT:
            raise ValueError("its digest differs")
        files = {name: (size, digest) for name, (size, digest) in content["files"].items()}
        return Manifest(content["step"], content["scores"], files, content.get("counts", {}), _arrays(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{FILE}: cannot be read ({error})") from error


def verify(directory: Path, manifest: Manifest, *, on_file: Callable[[int], None] = lambda size: None) -> None:
    """Checks that the files of a checkpoint are those that were written.

    Args:
      directory: the directory of the checkpoint.
      manifest: its manifest.
      on_file: called with the size of each file in bytes once it has been checked.

    Raises:
      Damaged: a file is missing, has another size or other contents, or does not belong there.
    """
    found = {path.relative_to(directory).as_posix(): path for path in _files(directory)}
    for name, (size, digest) in manifest.files.items():
        if name not in found:
            raise Damaged(f"{name}: is missing")
        try:
            now = found[name].stat().st_size
            if now != size:
                raise Damaged(f"{name}: has {now:,} bytes instead of {size:,}")
            if _sha256(found[name]) != digest:
                raise Damaged(f"{name}: its contents have changed")
            on_file(size)
        except OSError as error:
            raise Damaged(f"{name}: cannot be read ({error.strerror})") from error
    for name in found.keys() - manifest.files.keys():
        raise Damaged(f"{name}: does not belong to the checkpoint")


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in (FILE, f"{FILE}.new"):
            yield path


def _record(path: Path) -> tuple[int, str]:
    # Orbax leaves it to the operating system when its files reach the disk.
    _sync(path)
    return path.stat().st_size, _sha256(path)


def _write(directory: Path, manifest: Manifest) -> None:
    """Writes a manifest so that, whenever the process is killed, there is the old one or the new one."""
    files = {name: [size, digest] for name, (size, digest) in manifest.files.items()}
    content = {"format": _FORMAT, "step": manifest.step, "scores": dict(manifest.scores), "files": files}
    content |= {"counts": dict(manifest.counts), "arrays": {path: dict(it) for path, it in manifest.arrays.items()}}
    text = json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n"
    new = directory / f"{FILE}.new"
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(directory / FILE)
    _sync(directory)


def _arrays(content: Mapping[str, Any]) -> ArrayDigests:
    return {path: dict(parts) for path, parts in content.get("arrays", {}).items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    """Returns a digest of everything else in the manifest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Waits until a file or a directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
