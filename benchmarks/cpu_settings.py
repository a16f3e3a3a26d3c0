"""Times networks on a CPU with small pages of memory, and on two CPU devices, and prints JSON.

    python benchmarks/cpu_settings.py
    python benchmarks/cpu_settings.py --python PYTHON --case plain_unet --rounds 5

Each setting runs in turn with the usual one, which is one device and large pages: step.py asks for them as the commands
do, unless GLIBC_TUNABLES is set. Two devices have half of each batch.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from measuring import Part, alternate, print_result, progress, ratios, result, table, text
from networks import CASES, PHASES, Case, commands, selected

USUAL, SMALL_PAGES, TWO_DEVICES = "usual", "small pages", "two devices"


def sides(case: Case, python: str, steps: int) -> dict[str, list[str]]:
    """Returns the command of each setting."""
    ours, _ = commands(case, peer_script="")
    command = [python, *ours, "--steps", str(steps)]
    return {
        USUAL: command,
        SMALL_PAGES: ["env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=0", *command],
        TWO_DEVICES: [*command, "--devices", "2"],
    }


def row(case: Case, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Returns the row of a network: the times of each setting, relative to the usual one."""
    times = {
        name: {phase: [run[phase]["wall_min"] for run in found] for phase in PHASES} for name, found in runs.items()
    }
    ratio = [ratios(times[name][phase], times[USUAL][phase]) for name in (SMALL_PAGES, TWO_DEVICES) for phase in PHASES]
    return [f"`{case.name}`", f"{case.batch}, {case.size}", *ratio]


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--case", nargs="+", choices=[case.name for case in CASES], help="networks (default: all)")
    parser.add_argument("--batch", type=int, help="images at once, instead of each network's own")
    parser.add_argument("--size", type=int, help="height and width, instead of each network's own")
    parser.add_argument("--steps", type=int, default=6, help="timed calls in each process")
    parser.add_argument("--rounds", type=int, default=3, help="number of times that each setting runs")
    flags = parser.parse_args()
    runs = {}
    for case in selected(flags):
        progress(f"{case.name}, {flags.rounds} rounds")
        runs[case] = alternate(sides(case, flags.python, flags.steps), flags.rounds)
    about = """The time of a training step and of inference on a CPU, relative to that with large pages on one device:
    above 1, the setting is slower. The commands use large pages, and one device unless JAX_NUM_CPU_DEVICES is set."""
    columns = [
        "network",
        "batch, size",
        *(f"{name}: {phase}" for name in (SMALL_PAGES, TWO_DEVICES) for phase in PHASES),
    ]
    parts: list[Part] = [text(about), table(columns, [row(case, found) for case, found in runs.items()])]
    library = next(iter(runs.values()))[USUAL][0]["library"]
    data = [{"case": case.name, **found} for case, found in runs.items()]
    print_result(result("Settings of the CPU", parts, versions=[library], data=data))


if __name__ == "__main__":
    main()
