"""The file system of a directory: free space, whether it is on a network, and how fast it writes."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from flaxseg.data.memory import size_text
from flaxseg.diagnosis.findings import Finding, Note, Problem, Row

_NETWORK = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "ceph", "beegfs", "glusterfs", "9p", "virtiofs",
    "wekafs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.beegfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
    "fuse.mount-s3", "fuse.juicefs",
))  # fmt: skip
_IN_MEMORY = frozenset(("tmpfs", "ramfs"))

_SPEEDS = ((500e6, "fast"), (100e6, "medium"), (0.0, "slow: saving takes long, though training goes on meanwhile"))
_PROBE_BYTES = 2**25
_PROBE_SECONDS = 5.0
_LITTLE_SPACE = 2**30


def check_storage(directory: Path, *, needed: int = _LITTLE_SPACE) -> Iterator[Finding]:
    """Yields the free space of the file system of a directory, its kind, and how fast it writes.

    The speed is measured with a temporary file, which has no name and leaves nothing behind.

    Args:
      directory: an existing directory.
      needed: the number of free bytes below which there is too little space.
    """
    mount, kind = _mount(directory)
    where = {kind in _NETWORK: "a network file system", kind in _IN_MEMORY: "in memory: lost when the machine restarts"}
    yield Row("directory", str(directory.absolute()))
    yield Row("file system", f"{kind}{f', {where[True]}' if True in where else ''} (mounted at {mount})")
    usage = shutil.disk_usage(directory)
    yield Row("free space", f"{size_text(usage.free)} of {size_text(usage.total)}")
    if usage.free < needed:
        yield Problem(
            f"{directory}: only {size_text(usage.free)} are free, and at least {size_text(needed)} are needed to save",
            "delete what is no longer needed, or use a directory on another disk",
        )
    if hasattr(os, "statvfs"):
        inodes = os.statvfs(directory)
        if inodes.f_files and inodes.f_favail < 1000:
            yield Problem(f"{directory}: only {inodes.f_favail} more files can be created", "delete some files there")
    try:
        speed = _write_speed(directory)
    except OSError as error:
        reason = f"{directory}: no file can be written there ({error.strerror})"
        yield Problem(reason, "correct its permissions, free space, or use another directory")
        return
    yield Row("write speed", f"{speed / 1e6:,.0f} MB/s ({next(name for least, name in _SPEEDS if speed >= least)})")
    if kind in _NETWORK:
        yield Note(
            "datasets of many small files are faster on a local disk; config.data.cache=host reads each file once"
        )


def _mount(directory: Path) -> tuple[str, str]:
    """Returns where the file system of a directory is mounted, and its type."""
    path, found = directory.resolve(), ("/", "unknown file system")
    for partition in psutil.disk_partitions(all=True):
        # The innermost one; of two at the same place, the later one hides the earlier one.
        if path.is_relative_to(partition.mountpoint) and len(partition.mountpoint) >= len(found[0]):
            found = (partition.mountpoint, partition.fstype or found[1])
    return found


def _write_speed(directory: Path) -> float:
    """Returns the bytes per second that reach the disk."""
    block, written, start = os.urandom(2**20), 0, time.perf_counter()
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        while written < _PROBE_BYTES and time.perf_counter() - start < _PROBE_SECONDS:
            written += file.write(block)
        os.fsync(file.fileno())
        return written / (time.perf_counter() - start)
