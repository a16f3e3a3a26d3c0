"""The lock of a working directory: only one run at a time writes to it."""

import contextlib
import dataclasses
import datetime
import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import jax
import psutil

from flaxseg.errors import CheckpointError
from flaxseg.train.callbacks import Callback
from flaxseg.train.processes import first_message
from flaxseg.train.step import TrainState
from flaxseg.train.workdir import Workdir

LOCK = ".lock"
"""The name of the lock file in a working directory."""

HEARTBEAT_SECONDS = 15.0
"""Time between updates of a lock's modification time."""

STALE_SECONDS = 60.0
"""Age at which the lock of a run on another host is taken for that of a killed run."""

_ATTEMPTS = 10
"""How often a lock that changes while it is being examined is examined again."""

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
    found = _read(path)
    return None if found is None else FoundLock(found[0], _parse(found[0]), now - found[1])


def this_process() -> Owner:
    """Returns this process as the owner of a new lock."""
    now = datetime.datetime.now(datetime.UTC)
    started = _start_time(psutil.Process())
    return Owner(
        socket.gethostname(), _system(), os.getpid(), started, f"{now:%Y-%m-%d %H:%M:%S} UTC", uuid.uuid4().hex
    )


class WorkdirLock(Callback):
    """Holds the lock of a working directory in its `with` block; the directory is created if it does not exist.

    The file `.lock` names the process. A thread that sleeps in between updates its modification time, or writes it
    again if it was deleted, and the file is removed at the end, along with directories that were created for it and are
    still empty. The lock of a run that was killed is taken over: on the same host, when its process is gone; from
    another host, when its last update is more than a minute old. Between hosts it works on every file system where
    `O_CREAT | O_EXCL` is atomic, as on NFS.

    With several processes the first one takes the lock, and all of them raise the same error.

    Args:
      workdir: the working directory.

    Raises:
      CheckpointError: another run holds the lock, or the directory is not a run's or cannot be written to.
    """

    def __init__(self, workdir: Workdir) -> None:
        self._workdir = workdir
        self._path = workdir.path / LOCK
        self._text = json.dumps(dataclasses.asdict(this_process()), ensure_ascii=False) + "\n"
        self._created: list[Path] = []
        self._is_held = self._is_lost = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        refused = ""
        if jax.process_index() == 0:
            try:
                self._take()
            except CheckpointError as error:
                refused = str(error)
        if jax.process_count() > 1:
            refused = first_message(refused)
        if refused:
            raise CheckpointError(refused)
        if self._is_held:
            threading.Thread(target=self._beat, name="flaxseg-lock", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Removes the lock, and directories that were created for it and are still empty."""
        self._ended.set()
        with contextlib.suppress(OSError):
            if self._is_held and self._is_own():
                self._path.unlink(missing_ok=True)
        self._remove_created()

    def on_checkpoint(self, step: int, state: TrainState, scores: Mapping[str, float] | None) -> None:
        """Raises CheckpointError if another run has taken the lock over, so that no checkpoint is mixed with its."""
        with contextlib.suppress(OSError):  # A network file system may be away for a while.
            # The thread may not have looked since this process was suspended.
            found = _read(self._path) if self._is_held else None
            # An empty file is being written again.
            self._is_lost |= found is not None and found[0] not in ("", self._text)
        if self._is_lost:
            raise CheckpointError(
                f"{self._workdir.path}: another run took over this working directory, because this one was suspended "
                f"for more than {STALE_SECONDS:.0f} s; step {step} was not saved. Only one of them can continue"
            )

    def _take(self) -> None:
        """Creates the lock file, or takes it over from a run that is gone."""
        self._workdir.check_contents()
        try:
            self._created = _missing(self._workdir.path)
            self._workdir.path.mkdir(parents=True, exist_ok=True)
            for _ in range(_ATTEMPTS):
                if _create(self._path, self._text) or self._take_over():
                    self._is_held = True
                    self._remove_leftovers()
                    return
        except CheckpointError:
            raise
        except (OSError, ValueError) as error:
            raise self._workdir.unusable(error) from error
        finally:
            if not self._is_held:
                self._remove_created()
        raise CheckpointError(f"{self._path}: changes all the time; another run may be starting here. Try again")

    def _take_over(self) -> bool:
        """Replaces the lock of a run that is gone; returns False if the lock changed meanwhile.

        Raises:
          CheckpointError: that run may still be there.
        """
        new, claim = (self._path.with_name(f"{LOCK}.{name}") for name in (uuid.uuid4().hex, "takeover"))
        try:
            new.write_text(self._text, encoding="utf-8")
            # Compared with a file written just now, because the clock of a file server may differ from this host's.
            now = new.stat().st_mtime
            found = read_lock(self._path, now=now)
            if found is None:
                return False
            if found.is_held:
                raise self._refused(found.owner, found.age)
            if not _create(claim, self._text):
                # Another run is taking over right now, or was killed while it did.
                left = read_lock(claim, now=now)
                if left and not left.is_held:
                    claim.unlink(missing_ok=True)
                self._ended.wait(0.1)
                return False
            try:
                again = _read(self._path)
                if again is None or again[0] != found.text:
                    return False
                new.replace(self._path)
            finally:
                claim.unlink(missing_ok=True)
        finally:
            new.unlink(missing_ok=True)
        message = (
            f"{self._workdir.path}: taken over from a run that was killed ({found.owner or 'an unfinished lock file'})"
        )
        print(message, file=sys.stderr, flush=True)
        return True

    def _refused(self, owner: Owner | None, age: float) -> CheckpointError:
        here = owner is not None and owner.is_here
        killed = "" if here else f"; if it was killed, try again in {max(STALE_SECONDS - age, 0) + 1:.0f} s"
        return CheckpointError(
            f"{self._workdir.path}: another run is using this working directory "
            f"({owner or 'its .lock cannot be read'}); wait until it ends or stop it, or give another --workdir{killed}"
        )

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if self._is_own():
                    os.utime(self._path)
                elif not _create(self._path, self._text):
                    self._is_lost = True
                    return
                elif self._ended.is_set():  # It was just released, and not deleted by somebody else.
                    self._path.unlink(missing_ok=True)
            except OSError:
                continue  # A network file system may be away for a while.

    def _is_own(self) -> bool:
        found = _read(self._path)
        return found is not None and found[0] == self._text

    def _remove_leftovers(self) -> None:
        """Removes what runs have left that were killed while they took the lock over."""
        with contextlib.suppress(OSError):
            now = self._path.stat().st_mtime
            for path in self._path.parent.glob(f"{LOCK}.*"):
                left = read_lock(path, now=now)
                if left and not left.is_held:
                    path.unlink(missing_ok=True)

    def _remove_created(self) -> None:
        for directory in self._created:
            with contextlib.suppress(OSError, ValueError):  # It is in use by now, or could not be created.
                directory.rmdir()


def _missing(path: Path) -> list[Path]:
    """Returns those of a directory and its parents that do not exist, the innermost first."""
    return [directory for directory in (path, *path.parents) if not directory.exists()]


def _create(path: Path, text: str) -> bool:
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


def _read(path: Path) -> tuple[str, float] | None:
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
