"""Measures an accelerator within 8 minutes, and prints JSON; accelerator.sh calls it and also writes Markdown.

    python benchmarks/accelerator.py
    python benchmarks/accelerator.py --peer PYTHON --seconds 900
    JAX_PLATFORMS=cpu python benchmarks/accelerator.py --quick

Measured are training and inference of three networks in bfloat16 at three sizes, relative to PyTorch with
torch.compile where it is installed and to the rate of matrix products; an epoch in one program against one step by
step; the forms of `flaxseg.ops` against plain ones; and whether two runs are equal to the last bit with deterministic
operations, with the cost of these. Each part has a deadline. What it does not reach is reported with the reason; since
compiled programs are kept, a second run reaches more.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from budget import Budget, Outcome
from measuring import PEERS, ROOT, Part, print_result, result, table, text

NETWORKS = {"unet": "resnet34", "deeplabv3plus": "resnet50", "segformer": "mit_b2"}
"""The networks, with their encoders."""

PHASES = ("train", "infer")
MODES = ("default", "deterministic")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class Settings(NamedTuple):
    """The sizes of what is measured."""

    sizes: tuple[int, ...] = (256, 512, 1024)
    batches: tuple[int, ...] = (64, 16, 4)
    steps: int = 10
    side: int = 8192
    small: tuple[int, int, int] = (128, 16, 512)
    """Size, batch and images of an epoch, for the parts besides the networks."""
    rounds: int = 5


QUICK = Settings(sizes=(32,), batches=(2,), steps=1, side=128, small=(16, 4, 8), rounds=2)


class Case(NamedTuple):
    """A command with its weight in the distribution of time."""

    command: list[str]
    weight: float
    xla_flags: str = ""


def cases(settings: Settings, networks: Mapping[str, str], peer: str) -> dict[str, Case]:
    """Returns the commands by name, in the order in which they run.

    Args:
      settings: the sizes.
      networks: the encoder of each network.
      peer: the interpreter with PyTorch, or "".
    """
    folder = ROOT / "benchmarks"
    size, batch, images = map(str, settings.small)
    part = [sys.executable, str(folder / "accelerator_parts.py")]
    small = ["--size", size, "--batch", batch, "--images", images, "--rounds", str(settings.rounds)]
    same = [
        "--bf16", "--steps", str(settings.steps), "--size", *map(str, settings.sizes),
        "--batch", *map(str, settings.batches),
    ]  # fmt: skip
    found = {"matmul": Case([*part, "matmul", "--side", str(settings.side)], 2)}
    found["epochs"] = Case([*part, "epochs", *small], 3)
    for mode in MODES:
        # In a process of its own each, which compiles by itself.
        flags = DETERMINISTIC if mode == "deterministic" else ""
        for run in range(2):
            found[f"{mode} {run}"] = Case([*part, "digest", *small], 1.5, flags)
    for name, encoder in networks.items():
        network = ["--encoder", encoder, *same]
        found[f"{name} flaxseg"] = Case([sys.executable, str(folder / "step.py"), "--model", name, *network], 6)
        if peer:
            command = [peer, str(PEERS / "torch_step.py"), "--arch", name, "--compile", *network]
            found[f"{name} PyTorch"] = Case(command, 6)
    found["forms"] = Case([*part, "forms", *small], 3)
    return found


def network_rows(outcomes: Mapping[str, Outcome], settings: Settings, networks: Mapping[str, str]) -> list[list[Any]]:
    """Returns a row for each network and size: images per second, their ratio to PyTorch's, and the share of matmul."""
    found = []
    matmul = outcomes["matmul"].lines
    for name, encoder in networks.items():
        ours = outcomes[f"{name} flaxseg"]
        peer = outcomes.get(f"{name} PyTorch", Outcome([], "PyTorch is not installed"))
        for index, (size, batch) in enumerate(zip(settings.sizes, settings.batches, strict=True)):
            row: list[Any] = [f"`{name}-{encoder}`", f"{batch}, {size}"]
            for phase in PHASES:
                mine, theirs = (side.lines[index][phase] if index < len(side.lines) else None for side in (ours, peer))
                row.append(round(batch / mine["wall_min"], 1) if mine else ours.reason)
                ratio = round(theirs["wall_min"] / mine["wall_min"], 2) if mine and theirs else None
                row.append(ratio or ("" if not mine else peer.reason))
                peak = matmul[0]["tflops"] * 1000 if matmul else 0
                row.append(f"{mine['gflop'] / mine['wall_min'] / peak:.0%}" if mine and peak else "")
            found.append(row)
    return found


def other_rows(outcomes: Mapping[str, Outcome]) -> list[list[Any]]:
    """Returns the rows of the measurements that are no networks."""
    epochs, forms = outcomes["epochs"], outcomes["forms"]
    speedup = epochs.lines[0]["speedup"] if epochs.lines else epochs.reason
    rows = [["an epoch in one program, `data.cache=device`", "one step per call", speedup]]
    for name, phases in (forms.lines[0] if forms.lines else {}).items():
        rows += [[f"{name}, {phase}", "plain form", ratio] for phase, ratio in phases.items()]
    if not forms.lines:
        rows.append(["operations of `flaxseg.ops`", "plain forms", forms.reason])
    for mode in MODES:
        runs = [outcomes[f"{mode} {run}"] for run in range(2)]
        reason = next((run.reason for run in runs if not run.lines), "")
        equal = not reason and runs[0].lines[0]["digest"] == runs[1].lines[0]["digest"]
        rows.append([f"two runs, {mode} operations", "equal to the last bit", reason or ("yes" if equal else "no")])
    found = [outcomes[f"{mode} 0"] for mode in ("deterministic", "default")]
    times = [each.lines[0]["ms_per_step"] for each in found if each.lines]
    cost = round(times[1] / times[0], 2) if len(times) == 2 else next(each.reason for each in found if not each.lines)
    rows.append(["rate with deterministic operations", "default operations", cost])
    return rows


def tables(outcomes: Mapping[str, Outcome], settings: Settings, networks: Mapping[str, str]) -> list[Part]:
    """Returns the parts of the result."""
    matmul = outcomes["matmul"]
    peak = f"{matmul.lines[0]['tflops']:.4g} TFLOP/s" if matmul.lines else matmul.reason
    size, batch, _ = settings.small
    about = f"""Images per second in bfloat16. `ratio` is the rate relative to that of PyTorch with torch.compile,
    channels-last and bfloat16; `of matmul` is the rate of the operations in convolutions and matrix products, relative
    to the measured rate of products of {settings.side} x {settings.side} matrices: {peak}."""
    columns = ["network", "batch, size"]
    for phase in PHASES:
        columns += [phase, f"{phase}: ratio", f"{phase}: of matmul"]
    rest = f"""The rest is relative to what the second column names; above 1 is faster. Images of {size}x{size}, batches
    of {batch}."""
    return [
        text(about), table(columns, network_rows(outcomes, settings, networks)),
        text(rest), table(["", "relative to", "ratio"], other_rows(outcomes)),
    ]  # fmt: skip


def python_with_torch(python: str) -> str:
    """Returns an interpreter if it has the packages of the PyTorch script, or ""."""
    code = "import importlib.util as u; print(all(map(u.find_spec, ('torch', 'timm', 'segmentation_models_pytorch'))))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return python if done.stdout.strip() == "True" else ""


def measure(settings: Settings, networks: Mapping[str, str], *, seconds: float, peer: str) -> dict[str, Any]:
    """Runs all cases within a number of seconds, and returns the result."""
    todo = cases(settings, networks, peer)
    budget = Budget(seconds, {name: case.weight for name, case in todo.items()})
    given = os.environ.get("XLA_FLAGS", "")
    outcomes = {
        name: budget.run(name, case.command, {"XLA_FLAGS": f"{given} {case.xla_flags}".strip()})
        for name, case in todo.items()
    }
    lines = outcomes["matmul"].lines
    device, versions = (lines[0]["device"], [f"jax {lines[0]['jax']}"]) if lines else ("unknown device", [])
    versions += [line["library"] for name, each in outcomes.items() for line in each.lines if "PyTorch" in name]
    data = {name: each._asdict() for name, each in outcomes.items()}
    return result(
        f"Accelerator: {device}", tables(outcomes, settings, networks), versions=[device, *versions], data=data
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=460.0, help="for everything together (default: 460)")
    parser.add_argument("--peer", metavar="PYTHON", default="", help="interpreter with PyTorch (default: this one)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="networks (default: all)")
    flags = parser.parse_args(argv)
    peer = python_with_torch(flags.peer or sys.executable)
    networks = {name: NETWORKS[name] for name in flags.networks}
    print_result(measure(QUICK if flags.quick else Settings(), networks, seconds=flags.seconds, peer=peer))


if __name__ == "__main__":
    main()
