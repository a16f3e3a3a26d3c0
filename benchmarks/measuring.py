"""What the scripts of this folder share: alternating processes, ratios with their spread, and the form of a result.

A script prints one result as JSON, which `results.py` turns into a section of RESULTS.md: a title, parts (text, tables
and commands), and where it is known the date, the machine and the versions. In a cell, null stands for a measurement
that was not made, and a spread for a median with the lowest and the highest value.
"""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"

_WIDTH = 118

Part = Mapping[str, Any]
Spread = dict[str, float]


def progress(text: str) -> None:
    """Reports progress on stderr, so that stdout has nothing but the result."""
    print(text, file=sys.stderr, flush=True)


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of a process that imports this clone of flaxseg, with further variables."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(variables or {})}


def run(command: Sequence[str], *, timeout: float | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns what it prints on stdout.

    Args:
      command: the command.
      timeout: seconds after which it is killed, and subprocess.TimeoutExpired raised.
      variables: environment variables.

    Raises:
      RuntimeError: it failed; the message has the end of its stderr.
    """
    progress("$ " + shlex.join([Path(command[0]).name, *command[1:]]))
    done = subprocess.run(command, capture_output=True, text=True, env=environment(variables), timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\nended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def run_json(command: Sequence[str], **options: Any) -> dict[str, Any]:
    """Returns the JSON of the last line that a command prints; see `run`."""
    return dict(json.loads(run(command, **options).splitlines()[-1]))


def version(python: str, package: str) -> str:
    """Returns a package's name and version in the environment of an interpreter."""
    code = f"from importlib.metadata import version; print('{package}', version('{package}'))"
    return run([python, "-c", code]).strip()


def alternate(sides: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Runs commands in turn, and returns what each of them printed in each round.

    Args:
      sides: the commands by name.
      rounds: number of times that each of them runs.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            found[name].append(run_json(command))
    return found


def spread(values: Iterable[float]) -> Spread:
    """Returns the median, the lowest and the highest of some values."""
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return {"median": round(middle, 3), "lowest": round(ordered[0], 3), "highest": round(ordered[-1], 3)}


def ratios(numerators: Iterable[float], denominators: Iterable[float]) -> Spread:
    """Returns the spread of the ratios of two measurements over the rounds, in each of which both were made."""
    return spread(above / below for above, below in zip(numerators, denominators, strict=True))


def text(paragraph: str) -> Part:
    """Returns a paragraph of a result."""
    return {"text": " ".join(paragraph.split())}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Part:
    """Returns a table of a result; a cell is text, a number, a spread, or None for what was not measured."""
    return {"columns": list(columns), "rows": [list(row) for row in rows]}


def result(title: str, parts: Sequence[Part], *, versions: Iterable[str], data: Any = None) -> dict[str, Any]:
    """Returns a result of this process's command, measured now on this machine.

    Args:
      title: the title of its section.
      parts: from `text` and `table`.
      versions: of the libraries that were measured.
      data: the single measurements, which RESULTS.md does not show.
    """
    return {
        "title": title,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": ", ".join(dict.fromkeys(versions)),
        "parts": [*parts, {"command": [command_line(sys.argv)]}],
        "data": data,
    }


def print_result(found: Mapping[str, Any]) -> None:
    """Prints a result as JSON, with as much on each line as fits."""
    print(_json(found, ""))


def _json(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, Mapping | list | tuple):
        return line
    inner = f"{indent} "
    if isinstance(value, Mapping):
        items = [f"{json.dumps(key)}: {_json(each, inner)}" for key, each in value.items()]
    else:
        items = [_json(each, inner) for each in value]
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{last}"


def machine() -> str:
    """Returns the name of the processor and the number of its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def command_line(arguments: Sequence[str]) -> str:
    """Returns a command as others would type it, with paths of this machine replaced by PYTHON, DIR and FILE."""
    words = [argument if "/" not in argument else _placeholder(argument) for argument in arguments[1:]]
    return shlex.join(["python", f"benchmarks/{Path(arguments[0]).name}", *words])


def _placeholder(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    if path.is_dir():
        kind = "DIR"
    elif path.is_file():
        kind = "PYTHON" if os.access(path, os.X_OK) and "python" in path.name else "FILE"
    else:
        return argument
    return f"{option}{equals}{kind}"


def resident_mib(key: str) -> int:
    """Returns the resident memory of this process in MiB: `VmRSS` now, `VmHWM` at its peak; 0 where it is unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0) // 1024
