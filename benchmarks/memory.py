"""Measures the peak of resident memory of training steps, of flaxseg and of PyTorch, and prints JSON.

    python benchmarks/memory.py --peer PYTHON
    python benchmarks/memory.py --peer PYTHON --case plain_unet --rounds 1

Each process takes a few training steps of one network. flaxseg is measured twice: with an empty cache of programs, when
the process also compiles, and with a full one. The memory includes the interpreter and the libraries.
"""

import argparse
import sys
import tempfile
from typing import Any

from measuring import Part, print_result, progress, ratios, result, run_json, spread, table, text
from networks import Case, add_arguments, commands, selected


def measure(case: Case, flags: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Returns what the processes print in each round."""
    ours, peer = commands(case, peer_script=flags.peer_script)
    same = ["--phases", "train", "--steps", str(flags.steps)]
    found: dict[str, list[dict[str, Any]]] = {"compiling": [], "cached": [], "peer": []}
    for _ in range(flags.rounds):
        with tempfile.TemporaryDirectory() as programs:
            for name in ("compiling", "cached"):
                # Without a limit of the compile time, so that the second process compiles nothing.
                cache = {"JAX_COMPILATION_CACHE_DIR": programs, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
                found[name].append(run_json([flags.python, *ours, *same], variables=cache))
        found["peer"].append(run_json([flags.peer, *peer, *same]))
    return found


def row(case: Case, runs: dict[str, list[dict[str, Any]]]) -> list[Any]:
    """Returns the table's row of a network."""
    peaks = {name: [run["peak_rss_mib"] for run in each] for name, each in runs.items()}
    sizes = [f"{spread(peaks[name])['median']:.0f} MiB" for name in ("compiling", "cached", "peer")]
    compared = [ratios(peaks[name], peaks["peer"]) for name in ("compiling", "cached")]
    return [f"`{case.name}`", f"{case.batch}, {case.size}", *sizes, *compared]


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--python", metavar="PYTHON", default=sys.executable, help="interpreter for flaxseg")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    flags = parser.parse_args()
    runs = {}
    for case in selected(flags):
        progress(case.name)
        runs[case] = measure(case, flags)
    columns = [
        "network", "batch, size", "flaxseg, compiling", "flaxseg, cached program", "PyTorch",
        "ratio, compiling", "ratio, cached program",
    ]  # fmt: skip
    about = """The largest resident memory of a process that takes training steps of one network in float32, with the
    interpreter and the libraries, and its ratio to that of PyTorch (channels-last); below 1, flaxseg needs less."""
    parts: list[Part] = [text(about), table(columns, [row(case, each) for case, each in runs.items()])]
    first = next(iter(runs.values()))
    versions = [first["cached"][0]["library"], first["peer"][0].get("library")]
    data = [{"case": case.name, **each} for case, each in runs.items()]
    print_result(result("Peak memory of a training step, CPU", parts, versions=versions, data=data))


if __name__ == "__main__":
    main()
