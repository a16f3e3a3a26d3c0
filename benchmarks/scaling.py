"""Compiles a training step for 1, 2, 4 and 8 devices, and prints what each of them does, as JSON.

`python benchmarks/scaling.py --config=pet --config.data.dir=DIR`. Every number of devices is a process of its own with
as many fake CPU devices; nothing is trained. Each device has `train.batch_size` examples, so that the batch grows with
the devices; `--axis` names the axis of the mesh that they are on, where `spatial` splits the rows of one device's batch
instead. Reported are the mesh, the batch over all devices, the characters of the compiled program, and for each device
its memory, floating-point operations, bytes accessed, and the operations between devices with their number and bytes.

`--markdown` prints the model of `flaxseg.train.scaling_model` for 8, 64 and 512 devices instead, as in docs/scaling.md.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from typing import Any

SIZES = (1, 2, 4, 8)
MODELED = (8, 64, 512)


def measure(config: str, overrides: list[str], axis: str) -> dict[str, Any]:
    """Returns what each device of this process does in a step."""
    import jax

    from flaxseg.config.files import load_config
    from flaxseg.train.build import build
    from flaxseg.train.dry_run import step_cost
    from flaxseg.train.program_cost import shard_bytes
    from flaxseg.train.state import abstract_state

    devices = jax.device_count()
    given = load_config(config, overrides)
    batch = given.train.batch_size * (1 if axis == "spatial" else devices)
    sizes = {"data": 1, axis: devices}
    run = build(load_config(config, [*overrides, *(f"mesh.{name}={size}" for name, size in sizes.items()),
                                     f"train.batch_size={batch}", f"eval.batch_size={batch}"]))  # fmt: skip
    state = abstract_state(run)
    cost = step_cost(run, state, run.data.read_batch(0), batch)
    return {
        "devices": devices,
        "mesh": sizes,
        "batch": batch,
        "precision": given.train.precision,
        "program_characters": cost.text,
        "parameters": shard_bytes(state.params),
        "batch_statistics": shard_bytes(state.batch_stats),
        "optimizer": shard_bytes(state.opt_state),
        "memory": cost.memory,
        "temporaries": cost.temporaries,
        "flops": cost.flops,
        "bytes_accessed": cost.bytes_accessed,
        "collectives": {name: {"count": count, "bytes": size} for name, (count, size) in cost.collectives.items()},
    }


def in_a_process(arguments: list[str], devices: int) -> dict[str, Any]:
    """Returns what `measure` finds in a new process with a number of fake devices."""
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    flags = f"{flags} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, __file__, "--here", *arguments]
    finished = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def model_table(row: dict[str, Any]) -> str:
    """Returns the model of larger runs as a table in Markdown."""
    from flaxseg.train.program_cost import ProgramCost
    from flaxseg.train.scaling_model import CLUSTERS, smallest_batch, step_time

    cost = ProgramCost(
        memory=row["memory"],
        temporaries=row["temporaries"],
        flops=row["flops"],
        bytes_accessed=row["bytes_accessed"],
        collectives={name: (found["count"], found["bytes"]) for name, found in row["collectives"].items()},
        text=row["program_characters"],
    )
    examples = row["batch"] // row["devices"]
    names = ("devices", "networks", "computation", "all-reduce", "waiting", "fraction", "examples for 10%")
    lines = [f"| {' | '.join(names)} |", "|" + len(names) * "---|"]
    for cluster in CLUSTERS:
        for devices in MODELED:
            time = step_time(cost, cluster, devices=devices, bfloat16=row["precision"] == "bfloat16")
            columns = [f"{1e3 * part:.1f} ms" for part in (time.compute, time.transfer, time.latency)]
            enough = smallest_batch(time, examples, fraction=0.1)
            name = f"{cluster.accelerator.name}, {cluster.name}"
            lines.append(f"| {devices} | {name} | {' | '.join(columns)} | {time.fraction:.0%} | {enough} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="shapes")
    parser.add_argument("--axis", default="data", choices=("replicas", "data", "fsdp", "spatial"))
    parser.add_argument("--devices", type=int, nargs="+", default=SIZES)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options, overrides = parser.parse_known_args()
    if options.here:
        print(json.dumps(measure(options.config, [each.removeprefix("--config.") for each in overrides], options.axis)))
        return
    arguments = [f"--config={options.config}", f"--axis={options.axis}", *overrides]
    rows = [in_a_process(arguments, devices) for devices in options.devices]
    print(model_table(rows[-1]) if options.markdown else json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
