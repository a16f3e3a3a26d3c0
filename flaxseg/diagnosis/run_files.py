"""The directory of a run: whether it is one, who uses it, and whether its files can be read."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flaxseg.config.files import load_config
from flaxseg.config.validate import validate
from flaxseg.data.memory import size_text
from flaxseg.data.stored_samples import read_samples
from flaxseg.deploy.saved import WEIGHTS_NAME
from flaxseg.diagnosis.findings import Finding, Note, Problem, Row, one_line
from flaxseg.errors import ArgumentError, CheckpointError, FlaxsegError
from flaxseg.inference.description import FILE_NAME as MODEL
from flaxseg.inference.description import read_description
from flaxseg.models.pretrained.json_text import parse_json
from flaxseg.train.lock_file import LOCK, FoundLock, read_lock
from flaxseg.train.workdir import SAMPLES, Workdir

CONFIG, DATA = "config.json", "data.json"

_REPEAT = "restore it from a copy; or train again in another --workdir, from the weights of this one"
_REWRITTEN = "restore it from a copy, or delete it and repeat the command that trained the run, which writes it again"
_LEFTOVERS = ("*.new", f"{LOCK}.*", "checkpoints/*.new")
"""Files that a killed run leaves when it is killed while it writes."""


def check_kind(workdir: Path) -> Iterator[Finding]:
    """Yields whether a directory is that of a run."""
    yield Row("directory", str(workdir.absolute()))
    if not workdir.exists():
        yield Problem(f"{workdir}: does not exist", "give the --workdir of a run")
        return
    try:
        Workdir(workdir).check_contents()
    except CheckpointError as error:
        yield Problem(one_line(error), "give the --workdir of a run")
        return
    is_run = (workdir / CONFIG).exists() and not (workdir / WEIGHTS_NAME).exists()
    if is_run:
        yield Row("kind", "a run of flaxseg")
    elif (workdir / WEIGHTS_NAME).exists():
        yield Problem(f"{workdir}: is an exported folder, not a run", "give the --workdir of a run")
    else:
        yield Problem(f"{workdir}: contains no run ({CONFIG} is missing)", "give the --workdir of a run")


def find_lock(workdir: Path) -> FoundLock | None:
    """Returns the lock of a run; None if no run is using the directory.

    Raises:
      OSError: it cannot be read.
    """
    try:
        # Compared with a file written just now, because the clock of a file server may differ from this host's.
        with tempfile.TemporaryFile(dir=workdir) as file:
            file.write(b"\0")
            file.flush()
            now = os.fstat(file.fileno()).st_mtime
    except OSError:
        now = time.time()
    return read_lock(workdir / LOCK, now=now)


def check_lock(workdir: Path) -> Iterator[Finding]:
    """Yields who uses the directory of a run, and what a killed run has left behind."""
    lock = find_lock(workdir)
    if lock is None:
        yield Row("lock", "none: no run is using it")
    elif lock.is_held:
        yield Row("lock", f"in use by {lock.owner or 'a run whose lock cannot be read'}")
        yield Note("it is being written to, so what is unfinished below may be finished soon")
    else:
        yield Row("lock", f"left by a run that was killed ({lock.owner or 'an unfinished lock file'})")
        yield Note("repeat the command that trained the run to resume it; it takes the lock over")
    if lock is None or not lock.is_held:
        left = sorted(str(path.relative_to(workdir)) for pattern in _LEFTOVERS for path in workdir.glob(pattern))
        if left:
            yield Note(f"unfinished files of a run that was killed, which may be deleted: {', '.join(left)}")


def check_config(workdir: Path) -> Iterator[Finding]:
    """Yields whether the configuration of a run can be read and is valid."""
    path = workdir / CONFIG
    try:
        config = load_config(str(path), [])
    except FlaxsegError as error:
        yield Problem(f"{CONFIG} cannot be read ({one_line(error)})", _REPEAT)
        return
    try:
        validate(config)
    except FlaxsegError as error:
        remedy = "resume with the version of flaxseg that began the run (model.json has it); the weights remain usable"
        yield Problem(f"{CONFIG} is not valid for this version: {one_line(error)}", remedy)
        return
    yield Row(CONFIG, f"{config.model.name} on {config.data.name}, {path.stat().st_size:,} bytes")


def check_data(workdir: Path) -> Iterator[Finding]:
    """Yields whether the record of a run's data can be read."""
    try:
        found = parse_json((workdir / DATA).read_text(encoding="utf-8"))
        rows = [
            f"{name}: {split['examples']:,} examples, {len(split['classes'])} classes" for name, split in found.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield Problem(f"{DATA} cannot be read ({one_line(error)}), so the run cannot be resumed", _REWRITTEN)
        return
    yield Row(DATA, "; ".join(rows))


def check_model(workdir: Path) -> Iterator[Finding]:
    """Yields whether the description of a run's network can be read, and the network be built."""
    try:
        found = read_description(workdir / MODEL)
        found.build()
    except ArgumentError as error:
        remedy = "install the version of flaxseg that trained it, or the package of the network"
        yield Problem(f"{MODEL}: its network cannot be built ({one_line(error)})", remedy)
        return
    except FlaxsegError as error:
        yield Problem(one_line(error), _REWRITTEN)
        return
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    yield Row(MODEL, f"{found.name}, {found.num_classes} classes, {found.channels} channels; trained with {versions}")


def check_samples(workdir: Path) -> Iterator[Finding]:
    """Yields whether the stored samples of a run can be read."""
    path = workdir / SAMPLES
    if not path.exists():
        yield Note(f"{SAMPLES} is missing, so exports are compared on random images; resuming the run writes it again")
        return
    try:
        samples = read_samples(path)
    except FlaxsegError as error:
        yield Problem(one_line(error), "delete it; resuming the run writes it again")
        return
    yield Row(SAMPLES, f"{len(samples)} images and labels, {size_text(path.stat().st_size)}")
