"""A small process that says why a process of a run was aborted; run as a file, it imports nothing of flaxseg.

When the first process of a run has ended, which coordinates the others, JAX aborts these at once, and no Python code of
theirs runs any more. A witness outlives its process, and knows what it knew.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from typing import Any

_DONE = "done"
_CONNECT_SECONDS = 5.0


class Witness:
    """Starts the process, which inherits standard error.

    Args:
      address: HOST:PORT of the first process, which the witness tries to reach when its own process has ended.
    """

    def __init__(self, address: str) -> None:
        self._process: subprocess.Popen[str] | None = None
        # Without a witness, a run works as well. In a session of its own, Ctrl-C does not reach it.
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, address],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )

    def tell(self, *, own: str, first: str, step: int) -> None:
        """Tells it the names of its process and of the first one, and the last known step of the first one."""
        self._write(json.dumps({"own": own, "first": first, "step": step}))

    def dismiss(self) -> None:
        """Lets it end without a word, because its process says itself why it ends."""
        self._write(_DONE)
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CONNECT_SECONDS)
            self._process = None

    def _write(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()


def main(address: str) -> None:
    """Waits for the end of the process that has started this one, and says why it has ended if it has not."""
    last = ""
    for line in sys.stdin:
        last = line.strip()
    if last in ("", _DONE) or _is_reachable(address):
        return
    known: dict[str, Any] = json.loads(last)
    # After the message of JAX and the stacks.
    time.sleep(0.2)
    print(
        f"\nerror: {known['own']} was aborted, because {known['first']}, which coordinates the processes, has ended; "
        f"its last known step was {known['step']}. Repeat the command in all processes to resume",
        file=sys.stderr,
        flush=True,
    )


def _is_reachable(address: str) -> bool:
    """Returns whether a process listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    main(sys.argv[1])
