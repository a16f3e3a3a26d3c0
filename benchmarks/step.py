"""Times a training step and an inference call of the plain U-Net, and prints JSON.

`python benchmarks/step.py --batch 8 --size 128` runs alone. `--peer PYTHON --peer-script SCRIPT` names another
interpreter and a script that takes the same --batch, --size, --steps and prints the same JSON: the two then run
in turn for --rounds rounds, and the ratio of their fastest calls is printed (above 1: this one is faster).
Absolute times depend on the machine and its load; quote ratios.
"""

import argparse
import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxseg.losses import weighted_sum
from flaxseg.models import plain_unet
from flaxseg.train.step import create_train_state, predict_logits, train_step

WARM_UP_CALLS = 2
NUM_CLASSES = 3


def clock(call: Callable[[], Any], steps: int) -> dict[str, float]:
    """Seconds of wall time (least, median) and CPU time (least) of `call`, which returns what to wait for."""
    walls, cpus = [], []
    for _ in range(WARM_UP_CALLS + steps):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    walls, cpus = walls[WARM_UP_CALLS:], cpus[WARM_UP_CALLS:]
    return {
        "wall_min": round(min(walls), 4),
        "wall_median": round(float(np.median(walls)), 4),
        "cpu_min": round(min(cpus), 4),
    }


def measure(batch: int, size: int, steps: int, bf16: bool) -> dict[str, Any]:
    """Times one training step (forward, backward, AdamW) and one inference call of the plain U-Net."""
    model = plain_unet(num_classes=NUM_CLASSES, dtype=jnp.bfloat16 if bf16 else jnp.float32)
    tx = optax.adamw(1e-3, weight_decay=1e-2)
    loss_fn = weighted_sum({"cross_entropy": 1.0})
    random = np.random.default_rng(0)
    batch_arrays = {
        "image": jnp.asarray(random.integers(0, 256, (batch, size, size, 3), np.uint8)),
        "label": jnp.asarray(random.integers(0, NUM_CLASSES, (batch, size, size), np.uint8)),
    }
    create = jax.jit(functools.partial(create_train_state, model=model, tx=tx))
    state, key = create(jax.random.key(0), batch_arrays["image"]), jax.random.key(1)
    step = jax.jit(functools.partial(train_step, model=model, loss_fn=loss_fn, tx=tx), donate_argnums=0)
    infer = jax.jit(functools.partial(predict_logits, model=model))

    def train() -> Any:
        nonlocal state
        state, metrics = step(state, batch_arrays, key)
        return state, metrics

    times = {"train": clock(train, steps), "infer": clock(lambda: infer(state, batch_arrays["image"]), steps)}
    device = jax.devices()[0]
    return {
        "library": f"flaxseg on jax {jax.__version__}",
        "device": device.device_kind,
        "batch": batch,
        "size": size,
        "bf16": bf16,
        "params": sum(p.size for p in jax.tree.leaves(state.params)),
        **times,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def alternate(ours: list[str], peer: list[str], rounds: int) -> dict[str, Any]:
    """Runs two commands in turn, and compares the fastest call that each made in any round."""
    results: dict[str, list[dict[str, Any]]] = {"flaxseg": [], "peer": []}
    for _ in range(rounds):
        for name, command in (("flaxseg", ours), ("peer", peer)):
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[name].append(json.loads(printed.splitlines()[-1]))
    rates = {}
    for phase in ("train", "infer"):
        fastest = {name: min(run[phase]["wall_min"] for run in runs) for name, runs in results.items()}
        rates[phase] = round(fastest["peer"] / fastest["flaxseg"], 3)
    return {"rate_relative_to_peer": rates, **results}


def main() -> None:
    """Reads the flags, measures, prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="timed calls, after two that are not")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of the peer script")
    parser.add_argument("--peer-script", metavar="SCRIPT")
    parser.add_argument("--rounds", type=int, default=3, help="with --peer: number of times that each of the two runs")
    flags = parser.parse_args()
    if bool(flags.peer) != bool(flags.peer_script):
        parser.error("--peer and --peer-script have to be given together")
    if not flags.peer:
        print(json.dumps(measure(flags.batch, flags.size, flags.steps, flags.bf16)))
        return
    same = ["--batch", str(flags.batch), "--size", str(flags.size), "--steps", str(flags.steps)]
    same += ["--bf16"] if flags.bf16 else []
    ours, peer = [sys.executable, __file__, *same], [flags.peer, flags.peer_script, *same]
    print(json.dumps(alternate(ours, peer, flags.rounds)))


if __name__ == "__main__":
    main()
