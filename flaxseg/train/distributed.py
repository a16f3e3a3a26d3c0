"""Joins the processes of a run, on one or several machines: the option `--distributed`."""

import dataclasses
import re
import socket
import time

import jax

from flaxseg.errors import ConfigError
from flaxseg.report.console import print_line

AUTO = "auto"

WAIT_SECONDS = 300
"""How long a process waits for the others to start."""

_PAUSE_SECONDS = 0.2
_FORM = "HOST:PORT,N,I: the address of the first process, the number of processes, and the number of this one, from 0"


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a process among those of a run."""

    host: str
    port: int
    count: int
    index: int


def join(distributed: str, *, wait_seconds: int = WAIT_SECONDS) -> None:
    """Joins this process to those of a run, each of which must call it before it uses a device.

    Args:
      distributed: `auto`, where JAX finds the processes itself, as under SLURM, Open MPI, in Kubernetes (with JAX's
        extra `k8s`) and on TPU pods; or HOST:PORT,N,I: the address of the first process, the number of processes, and
        the number of this one, from 0.
      wait_seconds: how long to wait for the others; JAX ends the process after that.

    Raises:
      ConfigError: the value has another form, JAX finds no processes, or the first process cannot be reached.
    """
    if distributed == AUTO:
        _join_automatically(wait_seconds)
        return
    place = parse(distributed)
    if place.index == 0:
        _check_free(place)
    else:
        _wait_for_first(place, wait_seconds)
    if place.count > 1:
        print_line(
            f"process {place.index} of {place.count}: waits for the others at {place.host}:{place.port}, for at most "
            f"{wait_seconds} s"
        )
    jax.distributed.initialize(
        f"{place.host}:{place.port}", place.count, place.index, initialization_timeout=wait_seconds
    )


def parse(distributed: str) -> Place:
    """Returns the place of this process that a text of the form HOST:PORT,N,I gives it.

    Raises:
      ConfigError: the text has another form, or a number is out of range.
    """
    found = re.fullmatch(r"(?P<host>[^\s,]+):(?P<port>\d{1,5}),(?P<count>\d{1,7}),(?P<index>\d{1,7})", distributed)
    if found is None:
        raise ConfigError(f"--distributed={distributed!r}: must be {AUTO!r} or {_FORM}, as in 10.0.0.1:1234,2,0")
    place = Place(found["host"], int(found["port"]), int(found["count"]), int(found["index"]))
    if not 0 < place.port < 2**16:
        raise ConfigError(f"--distributed={distributed!r}: the port must be 1 to {2**16 - 1}")
    if not 0 <= place.index < place.count:
        raise ConfigError(
            f"--distributed={distributed!r}: there is no process {place.index} of {place.count}; the first is 0, the "
            f"last is {max(place.count - 1, 0)}"
        )
    return place


def _join_automatically(wait_seconds: int) -> None:
    try:
        jax.distributed.initialize(initialization_timeout=wait_seconds)
    # JAX raises it where nothing describes the processes, and RuntimeError or KeyError where something is missing.
    except (ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"--distributed={AUTO}: JAX finds no other processes ({reason}); start the command with srun, mpirun, on a "
            f"TPU pod or in an indexed Job, or give {_FORM}"
        ) from error


def _check_free(place: Place) -> None:
    """Raises ConfigError if the first process cannot listen at its port."""
    try:
        with socket.create_server(("", place.port)):
            pass
    except OSError as error:
        raise ConfigError(
            f"--distributed: port {place.port} cannot be used on this machine ({error.strerror}); choose another port "
            "in all processes"
        ) from error


def _wait_for_first(place: Place, seconds: float) -> None:
    """Waits until the first process listens, because JAX would abort this one without naming the address."""
    end, problem = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            with socket.create_connection((place.host, place.port), timeout=max(end - time.monotonic(), 0.1)):
                return
        except OSError as error:
            problem = error.strerror or str(error)
            time.sleep(_PAUSE_SECONDS)
    raise ConfigError(
        f"--distributed: process 0 cannot be reached at {place.host}:{place.port} ({problem}); start it, and check the "
        "address and the firewall"
    )
