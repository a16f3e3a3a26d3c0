"""Times a training step and an inference call of a PyTorch network, and prints a line of JSON for each batch and size.

The peer of step.py: the same options, the same work, and the same keys. PyTorch runs in the form that is fastest for
it: channels-last, with `--bf16` under autocast, with `--compile` through torch.compile.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_unet import PlainUnet

WARM_UP_CALLS = 2
PHASES = ("train", "infer")


def build(name: str, encoder: str, num_classes: int) -> torch.nn.Module:
    """Returns the plain U-Net, or a network of segmentation_models_pytorch with random weights."""
    if name == "plain_unet":
        return PlainUnet(num_classes)
    import segmentation_models_pytorch as smp

    return smp.create_model(name, encoder_name=encoder or "resnet34", encoder_weights=None, classes=num_classes)


def resident_mib(key: str) -> int:
    """Returns the resident memory of this process in MiB: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) // 1024


def clock(call: Callable[[], Any], steps: int, device: str) -> dict[str, float]:
    """Returns the seconds of wall time (least, median) and CPU time (least) of a call."""
    walls, cpus = [], []
    for _ in range(WARM_UP_CALLS + steps):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    walls, cpus = sorted(walls[WARM_UP_CALLS:]), cpus[WARM_UP_CALLS:]
    return {"wall_min": walls[0], "wall_median": walls[len(walls) // 2], "cpu_min": min(cpus)}


def measure(flags: argparse.Namespace, batch: int, size: int) -> dict[str, Any]:
    """Times one training step (forward, backward, AdamW) and one inference call."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = build(flags.arch, flags.encoder, flags.classes).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=device == "cuda")
    x = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, flags.classes, (batch, size, size), device=device)
    forward = torch.compile(net) if flags.compile else net

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=flags.bf16):
            logits = forward(x)
        torch.nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=flags.bf16):
            forward(x)

    found: dict[str, Any] = {
        "library": f"torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        **{"model": flags.arch, "encoder": flags.encoder, "batch": batch, "size": size, "bf16": flags.bf16},
        "compile": flags.compile,
        "params": sum(p.numel() for p in net.parameters()),
        "start_rss_mib": resident_mib("VmRSS"),
    }
    for phase, call in (("train", train), ("infer", infer)):
        if phase in flags.phases:
            net.train(phase == "train")
            found[phase] = {**clock(call, flags.steps, device), "peak_rss_mib": resident_mib("VmHWM")}
    peak_device = torch.cuda.max_memory_allocated() // 2**20 if device == "cuda" else None
    return {**found, "peak_rss_mib": resident_mib("VmHWM"), "peak_device_mib": peak_device}


def main() -> None:
    """Reads the flags, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="plain_unet", help="plain_unet, or a network's name in SMP")
    parser.add_argument("--encoder", default="", help="an encoder's name in SMP")
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--size", type=int, nargs="+", default=[128])
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    for batch, size in zip(flags.batch, flags.size, strict=True):
        print(json.dumps(measure(flags, batch, size)), flush=True)


if __name__ == "__main__":
    main()
