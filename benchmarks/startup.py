"""Times a training command from its start to the first loss that it prints, and prints JSON.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 5 -- --config=pet --config.data.dir=DIR

What follows `--` are the arguments of `python -m flaxseg.main`, by default `--config=shapes`. The command runs in a
terminal of its own, where the loss is awaited, first with an empty cache of compiled programs and then with a full one.
Further processes report where the time goes (startup_phases.py), and the CPU time of `--help` and of an error in the
configuration is taken from the operating system.
"""

import argparse
import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import Part, environment, print_result, progress, result, run_json, spread, table, text, version

PHASES_SCRIPT = Path(__file__).with_name("startup_phases.py")
LOSS = re.compile(rb"loss \d")
SHORT = {"`--help`": ["--help"], "an error in the configuration": ["--config=shapes", "--config.train.steps=-1"]}
"""Commands that train nothing, by the name of their row."""


def seconds_to_loss(command: Sequence[str], *, cache: str, timeout: float) -> float:
    """Returns the seconds from the start of a training command to the first loss in its terminal; then kills it.

    Args:
      command: the command.
      cache: the folder of compiled programs.
      timeout: the seconds to wait.

    Raises:
      RuntimeError: the command ended, or the time was over, without a loss; the message has its output.
    """
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 120))
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment(_cached(cache))
    )
    os.close(terminal)
    output = b""
    try:
        while (left := begin + timeout - time.perf_counter()) > 0:
            if not select.select([screen], [], [], left)[0]:
                break
            # Reading fails once no process has the terminal open.
            with contextlib.suppress(OSError):
                output += (read := os.read(screen, 65536))
                if LOSS.search(output):
                    return time.perf_counter() - begin
                if read:
                    continue
            break
        raise RuntimeError(f"no loss after {time.perf_counter() - begin:.0f} s:\n{output.decode(errors='replace')}")
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def phases(python: str, arguments: Sequence[str], *, cache: str) -> dict[str, float]:
    """Returns the seconds that each phase of a training command takes until the first loss is known."""
    begin = time.time()
    return run_json([python, str(PHASES_SCRIPT), str(begin), *arguments], variables=_cached(cache))


def cpu_seconds(command: Sequence[str]) -> float:
    """Returns the seconds of CPU time that a command takes, of all its threads and of its exit."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # It has been waited for.
    return usage.ru_utime + usage.ru_stime


def _cached(folder: str) -> dict[str, str]:
    """Returns the environment variables of a cache of programs like the one that flaxseg has by default."""
    return {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}


def measure(python: str, arguments: Sequence[str], rounds: int, timeout: float) -> dict[str, list[Any]]:
    """Returns what each round measured: seconds to the loss without and with a cache, their phases, and CPU times."""
    found: dict[str, list[Any]] = {"cold": [], "warm": [], "phases": [], **{name: [] for name in SHORT}}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            cache = f"{folder}/programs"
            for name in ("cold", "warm"):
                command = [python, "-m", "flaxseg.main", *arguments, f"--workdir={folder}/{name}"]
                found[name].append(seconds_to_loss(command, cache=cache, timeout=timeout))
                progress(f"round {number + 1}: {name} {found[name][-1]:.2f} s")
            found["phases"].append(phases(python, [*arguments, f"--workdir={folder}/phases"], cache=cache))
        for name, words in SHORT.items():
            found[name].append(cpu_seconds([python, "-m", "flaxseg.main", *words]))
    return found


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", default=["--config=shapes"], help="of flaxseg.main, after `--`")
    parser.add_argument("--python", metavar="PYTHON", default=sys.executable, help="interpreter for flaxseg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for the loss")
    flags = parser.parse_args()
    found = measure(flags.python, flags.arguments, flags.rounds, flags.timeout)
    rows: list[list[Any]] = [["first loss, empty cache of programs", "wall", spread(found["cold"])]]
    rows.append(["first loss, full cache of programs", "wall", spread(found["warm"])])
    for name in found["phases"][0]:
        rows.append([f"- {name}", "wall", spread(each[name] for each in found["phases"])])
    rows += [[name, "CPU", spread(found[name])] for name in SHORT]
    about = f"""Seconds from the start of `python -m flaxseg.main {" ".join(flags.arguments)}` to the first loss that it
    prints (rounds: {flags.rounds}). The phases are those of the main thread with a full cache, in processes that also
    record them; what other threads do meanwhile takes no time here."""
    parts: list[Part] = [text(about), table(["", "time", "seconds"], rows)]
    print_result(result("Start of a command", parts, versions=[version(flags.python, "jax")], data=found))


if __name__ == "__main__":
    main()
