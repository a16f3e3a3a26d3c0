"""Time the input of training: images a second from files to augmented batches on the device, JSON out.

`python benchmarks/input.py --root DIR`, where DIR holds Oxford-IIIT Pet in its original layout, prints the rates of
the first epoch (files are read and decoded), of the epochs after it (`data.cache` = host and device), of the host's
part alone (cached batches handed to the device), and the seconds to the first batch at step 0 and at step 1,000,000.
`--peer PYTHON --peer-script SCRIPT` names another interpreter and a script that takes --root, --size, --workers and
--batch and prints `images_per_s_by_epoch`: the two then run in turn for --rounds rounds, and the ratios of the best
rates are printed. `--pairs 100000` instead times the opening of a folder of so many pairs, made of links.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from flaxseg.augment import canvas_size, make_augment
from flaxseg.data import Batch, folder, iterate, oxford_iiit_pet, train_batches
from flaxseg.data.pipeline import canvas_reader, train_indices
from flaxseg.train import device_cache
from flaxseg.train.sharding import make_mesh, place_batch

SCALE = (1.0, 1.3)
USUAL = {"scale": SCALE, "flip": 0.5, "brightness": 0.1, "contrast": 0.2}
FAR_STEP = 1_000_000


def rates(batches: Iterator[Any], step: Callable[[Any, int], Any], steps: int, batch: int, epochs: int) -> list[float]:
    """Images a second of each epoch; what a step gives is waited for one step later, as a training loop does."""
    found = []
    number, last = 0, None
    for _ in range(epochs):
        begin = time.perf_counter()
        for _ in range(steps):
            made = step(next(batches), number)
            jax.block_until_ready(last)
            last, number = made, number + 1
        jax.block_until_ready(last)
        found.append(round(steps * batch / (time.perf_counter() - begin), 1))
    return found


def measure(root: str, size: int, batch: int, workers: int, epochs: int) -> dict[str, Any]:
    """All rates of flaxseg's own input."""
    dataset, mesh, canvas = oxford_iiit_pet("train", data_dir=root), make_mesh(data=1), canvas_size((size, size), SCALE)
    augment = make_augment(crop_size=(size, size), **USUAL)  # type: ignore[arg-type]
    steps = len(dataset.source) // batch

    def normalized(number: int, given: Batch) -> Any:
        given = augment(jax.random.key(number), given)
        return (given["image"] - 127.0) / 128.0, given["label"]

    from_host = jax.jit(normalized)
    from_device = jax.jit(lambda number, stored, index: normalized(number, device_cache.take(stored, index, mesh)))
    reading = {"num_threads": workers, "prefetch": max(workers, 4)}
    cached = train_batches(dataset, canvas_size=canvas, batch_size=batch, seed=0, cache=True)
    warm = place_batch(cached[0], mesh)
    jax.block_until_ready(from_host(0, warm))
    plain = train_batches(dataset, canvas_size=canvas, batch_size=batch, seed=0)
    # No further than the epoch goes, as the peer reads: what is read ahead of the next one belongs to that.
    epoch = plain[:steps]
    first = rates(iterate(epoch, **reading), lambda b, n: from_host(n, place_batch(b, mesh)), steps, batch, 1)
    for step in range(2 * steps):  # every example is in the cache after an epoch
        cached[step]
    host = rates(iterate(cached, **reading), lambda b, n: from_host(n, place_batch(b, mesh)), steps, batch, epochs)
    hand_over = rates(iterate(cached, **reading), lambda b, _: place_batch(b, mesh), steps, batch, epochs)
    stored = device_cache.load(len(dataset.source), canvas_reader(dataset, canvas), mesh, num_threads=workers)
    indices = train_indices(dataset, batch_size=batch, seed=0)

    def on_device(given: Batch, number: int) -> Any:
        return from_device(number, stored, place_batch(given, mesh)["index"])

    jax.block_until_ready(on_device(indices[0], 0))
    device = rates(iterate(indices, **reading), on_device, steps, batch, epochs)
    return {
        "library": f"flaxseg on jax {jax.__version__}",
        "size": size,
        "workers": workers,
        "first_epoch": first,
        "cached_on_host": host,
        "cached_on_device": device,
        "host_part_alone": hand_over,
        "seconds_to_first_batch": {
            str(start): min(first_batch_after(plain, start, reading) for _ in range(5)) for start in (0, FAR_STEP)
        },
    }


def first_batch_after(batches: Any, start: int, reading: dict[str, int]) -> float:
    """Seconds from nothing to the batch of step `start`."""
    begin = time.perf_counter()
    iterator = iterate(batches, start=start, **reading)
    next(iterator)
    took = time.perf_counter() - begin
    iterator.close()  # type: ignore[attr-defined]
    return round(took, 4)


def open_pairs(pairs: int) -> dict[str, Any]:
    """Seconds and memory to open a folder of so many pairs and read one batch of them."""
    with tempfile.TemporaryDirectory() as root:
        for kind, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
            (Path(root) / kind).mkdir()
            Image.fromarray(np.zeros(shape, np.uint8)).save(Path(root) / f"{kind}.png")
            for number in range(pairs):
                os.symlink(Path(root) / f"{kind}.png", Path(root) / kind / f"{number:06d}.png")
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        dataset = folder("all", data_dir=root, class_names=("a", "b"))
        opened = time.perf_counter() - begin
        train_batches(dataset, canvas_size=(32, 32), batch_size=16, seed=0)[0]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return {"pairs": len(dataset.source), "seconds_to_open": round(opened, 2), "memory_mib": grown}


def alternate(ours: list[str], peer: list[str], rounds: int) -> dict[str, Any]:
    """Runs two commands in turn, and compares the best rate that each had in any round."""
    results: dict[str, list[dict[str, Any]]] = {"flaxseg": [], "peer": []}
    for _ in range(rounds):
        for name, command in (("flaxseg", ours), ("peer", peer)):
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[name].append(json.loads(printed.splitlines()[-1]))
    theirs = [run["images_per_s_by_epoch"] for run in results["peer"]]
    of_peer = {"first_epoch": max(epochs[0] for epochs in theirs)}
    compared = {}
    for phase in ("first_epoch", "cached_on_host", "cached_on_device", "host_part_alone"):
        best = max(max(run[phase]) for run in results["flaxseg"])
        compared[phase] = round(best / of_peer.get(phase, max(max(epochs) for epochs in theirs)), 2)
    return {"rate_relative_to_peer": compared, **results}


def main() -> None:
    """Reads the flags, measures, prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="a folder with images/ and annotations/ of Oxford-IIIT Pet")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="cached epochs")
    parser.add_argument("--pairs", type=int, help="time the opening of a folder of so many pairs instead")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter of the peer script")
    parser.add_argument("--peer-script", metavar="SCRIPT")
    parser.add_argument("--rounds", type=int, default=3, help="with --peer: how often each of the two runs")
    flags = parser.parse_args()
    if bool(flags.peer) != bool(flags.peer_script) or not (flags.root or flags.pairs):
        parser.error("--root or --pairs is needed, and --peer and --peer-script go together")
    if flags.pairs:
        print(json.dumps(open_pairs(flags.pairs)))
        return
    if not flags.peer:
        print(json.dumps(measure(flags.root, flags.size, flags.batch, flags.workers, flags.epochs)))
        return
    same = [
        "--root",
        flags.root,
        "--size",
        str(flags.size),
        "--batch",
        str(flags.batch),
        "--workers",
        str(flags.workers),
    ]
    ours, peer = [sys.executable, __file__, *same], [flags.peer, flags.peer_script, *same]
    print(json.dumps(alternate(ours, peer, flags.rounds)))


if __name__ == "__main__":
    main()
