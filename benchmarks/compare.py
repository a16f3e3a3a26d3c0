"""Runs step.py and a PyTorch script in turn on the same networks, and prints the ratios of their rates as JSON.

    python benchmarks/compare.py --peer PYTHON
    python benchmarks/compare.py --peer PYTHON --python PYTHON1 PYTHON2 --devices 1 2 --rounds 5

A ratio is the time of PyTorch's fastest call divided by that of flaxseg's, in one round; above 1, flaxseg is faster.
PYTHON has torch and segmentation_models_pytorch; PYTHON1 and PYTHON2 are environments with other versions of jax, for
example, and need the dependencies of flaxseg, which is taken from this clone.
"""

import argparse
import sys
from typing import Any

from measuring import Part, alternate, print_result, progress, ratios, result, table, text
from networks import PHASES, Case, add_arguments, commands, selected


def sides(case: Case, flags: argparse.Namespace, same: list[str]) -> dict[str, list[str]]:
    """Returns the command of the peer, and those of flaxseg by the number of their interpreter."""
    ours, peer = commands(case, peer_script=flags.peer_script)
    found = {"peer": [flags.peer, *peer, *same, *(["--compile"] if flags.compile else [])]}
    for number, python in enumerate(flags.python):
        devices = ["--devices", str(flags.devices[number])] if flags.devices else []
        found[str(number)] = [python, *ours, *same, *devices]
    return found


def rows(runs: dict[Case, dict[str, list[dict[str, Any]]]], pythons: int) -> list[list[Any]]:
    """Returns a row for each network: the ratios of training and inference for each interpreter."""
    found = []
    for case, sides in runs.items():
        row: list[Any] = [f"`{case.name}`", f"{case.batch}, {case.size}"]
        for number in range(pythons):
            for phase in PHASES:
                times = {name: [run[phase]["wall_min"] for run in sides[name]] for name in ("peer", str(number))}
                row.append(ratios(times["peer"], times[str(number)]))
        found.append(row)
    return found


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--python", metavar="PYTHON", nargs="+", default=[sys.executable])
    parser.add_argument("--devices", type=int, nargs="+", metavar="N", help="CPU devices to use, for each --python")
    parser.add_argument("--steps", type=int, default=8, help="timed calls in each process")
    parser.add_argument("--rounds", type=int, default=3, help="number of times that each of the scripts runs")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    flags = parser.parse_args()
    if flags.devices and len(flags.devices) != len(flags.python):
        parser.error("--devices needs one number for each --python")
    runs = {}
    for case in selected(flags):
        progress(f"{case.name}, {flags.rounds} rounds")
        same = ["--steps", str(flags.steps), *(["--bf16"] if flags.bf16 else [])]
        runs[case] = alternate(sides(case, flags, same), flags.rounds)
    first = next(iter(runs.values()))
    libraries = [first[str(number)][0] for number in range(len(flags.python))]
    names = [each["library"] + f" on {each['devices']} devices" * (each["devices"] > 1) for each in libraries]
    peer = first["peer"][0].get("library") or first["peer"][0]["peer"]
    columns = ["network", "batch, size", *(f"{name}: {phase}" for name in names for phase in PHASES)]
    precision = "bfloat16" if flags.bf16 else "float32"
    about = f"""The rate of flaxseg relative to {peer} (channels-last{", torch.compile" if flags.compile else ""}) doing
    the same work in {precision}: forward, backward and AdamW, or a forward pass. The median of alternating rounds
    ({flags.rounds}), with the lowest and the highest; above 1, flaxseg is faster."""
    parts: list[Part] = [text(about), table(columns, rows(runs, len(flags.python)))]
    data = [{"case": case.name, **sides} for case, sides in runs.items()]
    print_result(result("Networks, beside PyTorch", parts, versions=[*names, peer], data=data))


if __name__ == "__main__":
    main()
