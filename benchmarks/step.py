"""Times a training step and an inference call of a network, and prints a line of JSON for each batch and size.

    python benchmarks/step.py
    python benchmarks/step.py --model unet --encoder resnet34 --batch 4 --size 256

A training step is forward, backward and AdamW on random images and labels. peers/torch_step.py does the same work in
PyTorch, and compare.py runs the two in turn. As the commands do, it starts again to get memory in large pages.
Absolute times depend on the machine and its load; quote ratios.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import resident_mib

from flaxseg import compile_cache, host_memory
from flaxseg.losses import weighted_sum
from flaxseg.models import build_model
from flaxseg.models.flops import multiply_adds
from flaxseg.ops.platform import compiler_options
from flaxseg.train.sharding import data_mesh, place_batch, replicated
from flaxseg.train.step import create_train_state, predict_logits, train_step

WARM_UP_CALLS = 2
PHASES = ("train", "infer")


def clock(call: Callable[[], Any], steps: int) -> dict[str, float]:
    """Returns the seconds of wall time (least, median) and CPU time (least) of a call, whose result is waited for."""
    walls, cpus = [], []
    for _ in range(WARM_UP_CALLS + steps):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    walls, cpus = walls[WARM_UP_CALLS:], cpus[WARM_UP_CALLS:]
    return {
        "wall_min": round(min(walls), 5),
        "wall_median": round(float(np.median(walls)), 5),
        "cpu_min": round(min(cpus), 5),
    }


class Programs(NamedTuple):
    """The jitted functions of a network, and their arguments."""

    state: Any
    batch: Any
    train: Any
    """(state, batch, key) -> (state, metrics); the state's buffers are donated."""
    infer: Any
    """(state, image) -> logits"""
    devices: int


def programs(
    name: str,
    *,
    batch: int,
    size: int,
    encoder: str = "",
    num_classes: int = 3,
    bf16: bool = False,
    devices: int = 1,
) -> Programs:
    """Returns a training step (forward, backward, AdamW) and the inference of a network, on random images and labels.

    Args:
      name: the network, one of MODELS.
      batch: number of images.
      size: their height and width.
      encoder: the network's encoder; "" for its default.
      num_classes: number of classes.
      bf16: compute in bfloat16.
      devices: number of devices that the batch is split over.
    """
    options = {"encoder": encoder} if encoder else {}
    dtype = jnp.bfloat16 if bf16 else jnp.float32
    model = build_model(name, num_classes=num_classes, dtype=dtype, **options)
    mesh, tx = data_mesh(jax.devices()[:devices]), optax.adamw(1e-3, weight_decay=1e-2)
    random = np.random.default_rng(0)
    arrays = {
        "image": random.integers(0, 256, (batch, size, size, 3), np.uint8),
        "label": random.integers(0, num_classes, (batch, size, size), np.uint8),
    }
    given: Any = place_batch(arrays, mesh)  # type: ignore[arg-type]
    create = functools.partial(create_train_state, model=model, tx=tx)
    initialize = jax.jit(create, out_shardings=replicated(mesh), compiler_options=compiler_options(runs_once=True))
    state = initialize(jax.random.key(0), arrays["image"])
    loss_fn = weighted_sum({"cross_entropy": 1.0})
    step: Any = jax.jit(
        functools.partial(train_step, model=model, loss_fn=loss_fn, tx=tx),
        donate_argnums=0,
        out_shardings=replicated(mesh),
        compiler_options=compiler_options(),
    )
    infer: Any = jax.jit(functools.partial(predict_logits, model=model), compiler_options=compiler_options())
    return Programs(state, given, step, infer, mesh.size)


def measure(
    name: str,
    *,
    batch: int,
    size: int,
    steps: int,
    encoder: str = "",
    num_classes: int = 3,
    bf16: bool = False,
    phases: tuple[str, ...] = PHASES,
    devices: int = 1,
) -> dict[str, Any]:
    """Times a training step and an inference call of a network.

    Args:
      name: see `programs`, as for what is not named here.
      batch: see `programs`.
      size: see `programs`.
      steps: number of timed calls, after two that are not.
      encoder: see `programs`.
      num_classes: see `programs`.
      bf16: see `programs`.
      phases: which of "train" and "infer" to time.
      devices: see `programs`.
    """
    made = programs(name, batch=batch, size=size, encoder=encoder, num_classes=num_classes, bf16=bf16, devices=devices)
    state, given, step, infer, _ = made
    key = jax.random.key(1)

    def train() -> Any:
        nonlocal state
        state, metrics = step(state, given, key)
        return state, metrics

    calls: dict[str, Callable[[], Any]] = {"train": train, "infer": lambda: infer(state, given["image"])}
    traced = {
        "train": lambda: step.trace(state, given, key),
        "infer": lambda: infer.trace(state, given["image"]),
    }
    found: dict[str, Any] = {
        "library": f"jax {jax.__version__}",
        "device": jax.devices()[0].device_kind,
        "devices": made.devices,
        "model": name,
        "encoder": encoder,
        "batch": batch,
        "size": size,
        "bf16": bf16,
        "params": sum(p.size for p in jax.tree.leaves(state.params)),
        "start_rss_mib": resident_mib("VmRSS"),
    }
    for phase in phases:
        trace = traced[phase]()
        flops = 2 * multiply_adds(trace.jaxpr)
        trace.lower().compile()
        host_memory.give_back()  # As the commands do.
        found[phase] = {**clock(calls[phase], steps), "gflop": round(flops / 1e9, 3)}
        found[phase]["peak_rss_mib"] = resident_mib("VmHWM")
    return {**found, "peak_rss_mib": resident_mib("VmHWM"), "peak_device_mib": _peak_device_mib()}


def _peak_device_mib() -> int | None:
    """Returns the most memory in use at once on the first device; None where it is not measured, as on CPUs."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics["peak_bytes_in_use"] // 2**20 if "peak_bytes_in_use" in statistics else None


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    host_memory.restart_with_large_pages()  # As the commands do.
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="plain_unet", help="the network (default: plain_unet)")
    parser.add_argument("--encoder", default="", help="its encoder (default: the network's own)")
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="images at once (default: 8)")
    parser.add_argument("--size", type=int, nargs="+", default=[128], help="height and width of each batch")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="timed calls, after two that are not")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--devices", type=int, default=1, help="split each batch over this many devices (default: 1)")
    flags = parser.parse_args()
    if len(flags.batch) != len(flags.size):
        parser.error("--batch and --size must have equally many values")
    if flags.devices > 1:
        jax.config.update("jax_num_cpu_devices", flags.devices)
    compile_cache.enable()
    for batch, size in zip(flags.batch, flags.size, strict=True):
        found = measure(
            flags.model,
            batch=batch,
            size=size,
            steps=flags.steps,
            encoder=flags.encoder,
            num_classes=flags.classes,
            bf16=flags.bf16,
            phases=tuple(flags.phases),
            devices=flags.devices,
        )
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
