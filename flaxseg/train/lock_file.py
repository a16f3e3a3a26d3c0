"""The lock file of a working directory: what it says of the run that holds it."""

import dataclasses
import datetime
import json
import os
import socket
import uuid
from pathlib import Path

import psutil

LOCK = ".lock"
"""The name of the lock file in a working directory."""

STALE_SECONDS = 60.0
"""Age at which the lock of a run on another host is taken for that of a killed run."""

_MAX_PID = 2**31


@dataclasses.dataclass(frozen=True)
class Owner:
    """The run that holds a lock, as it describes itself in the file.

    Attributes:
      host: the name of its host.
      system: identifies the running operating system and its process ids, because containers may share a host's name.
      pid: its process.
      started: when that process started, so that a reused process id is not taken for it; see `_start_time`.
      since: when it took the lock, for people.
      token: distinguishes it from every other run.
    """

    host: str
    system: str
    pid: int
    started: float
    since: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether its process id means something on this host."""
        return (self.host, self.system) == (socket.gethostname(), _system())

    @property
    def is_running(self) -> bool:
        """Whether its process exists on this host."""
        try:
            process = psutil.Process(self.pid)
            return abs(_start_time(process) - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


@dataclasses.dataclass(frozen=True)
class FoundLock:
    """The lock of a working directory, as it is read from the file.

    Attributes:
      text: the content of the file.
      owner: the run that it names; None if it cannot be read.
      age: seconds since its last update.
    """

    text: str
    owner: Owner | None
    age: float

    @property
    def is_held(self) -> bool:
        """Whether its run may still be there; otherwise it was killed."""
        return self.owner.is_running if self.owner and self.owner.is_here else self.age < STALE_SECONDS


def read_lock(path: Path, *, now: float) -> FoundLock | None:
    """Returns a lock; None if there is no such file.

    Args:
      path: the lock file.
      now: the time on the clock of the file system, in seconds since the epoch.

    Raises:
      OSError: it cannot be read.
    """
    found = read_file(path)
    return None if found is None else FoundLock(found[0], _parse(found[0]), now - found[1])


def this_process() -> Owner:
    """Returns this process as the owner of a new lock."""
    now = datetime.datetime.now(datetime.UTC)
    started = _start_time(psutil.Process())
    return Owner(
        socket.gethostname(), _system(), os.getpid(), started, f"{now:%Y-%m-%d %H:%M:%S} UTC", uuid.uuid4().hex
    )


def create_file(path: Path, text: str) -> bool:
    """Creates a file unless there is one; returns whether it was created."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def read_file(path: Path) -> tuple[str, float] | None:
    """Returns a file's text and modification time, or None if there is no such file."""
    try:
        # Opening it makes a network file system fetch both anew.
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(), os.fstat(stream.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _parse(text: str) -> Owner | None:
    try:
        owner = Owner(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None
    # What a damaged file says may be a number that no process can have.
    is_process = type(owner.pid) is int and 0 < owner.pid < _MAX_PID and isinstance(owner.started, int | float)
    return owner if is_process else None


def _start_time(process: psutil.Process) -> float:
    """Returns when a process started: on Linux in seconds since the boot, which do not change with the clock."""
    try:
        # The name of the program, in parentheses, may contain anything.
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return int(fields.split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return float(process.create_time())


def _system() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
