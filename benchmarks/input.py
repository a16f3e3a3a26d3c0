"""Measures the input pipeline of training: images per second from files to augmented batches on the device, as JSON.

`python benchmarks/input.py --root DIR`, where DIR contains Oxford-IIIT Pet in its original layout, prints the rates of
the first epoch (which reads and decodes files), of later epochs (cached in host memory and on the device), of the host
alone (cached batches transferred to the device), and the seconds to the first batch at step 0 and at step 1,000,000.
`--peer PYTHON --peer-script SCRIPT` names another interpreter and a script that accepts --root, --size, --workers and
--batch and prints `images_per_s_by_epoch`; both then run alternately for --rounds rounds, and the ratios of the best
rates are printed. `--pairs 100000` instead times opening a folder with that many pairs, made of links.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import alternate
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
    """Returns the images per second of each epoch; waits for the result of a step one step later, like training."""
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
    """Returns all rates of the input pipeline of flaxseg."""
    dataset, mesh, canvas = oxford_iiit_pet("train", data_dir=root), make_mesh(data=1), canvas_size((size, size), SCALE)
    augment = make_augment(crop_size=(size, size), **USUAL)  # type: ignore[arg-type]
    steps = len(dataset.source) // batch

    def normalized(number: int, given: Batch) -> Any:
        given = augment(jax.random.key(number), given)
        return (given["image"] - 127.0) / 128.0, given["label"]

    from_host = jax.jit(normalized)
    from_device = jax.jit(lambda number, stored, index: normalized(number, device_cache.take(stored, index, mesh)))
    reading = {"num_threads": workers, "prefetch": max(workers, 4)}
    cached = train_batches(dataset, canvas_size=canvas, batch_size=batch, seed=0, cache="host")
    warm = place_batch(cached[0], mesh)
    jax.block_until_ready(from_host(0, warm))
    plain = train_batches(dataset, canvas_size=canvas, batch_size=batch, seed=0)
    # Only one epoch, like the peer: prefetching the next epoch would count against this one.
    epoch = plain[:steps]
    first = rates(iterate(epoch, **reading), lambda b, n: from_host(n, place_batch(b, mesh)), steps, batch, 1)
    for step in range(2 * steps):  # after one epoch, every example is cached
        cached[step]
    host = rates(iterate(cached, **reading), lambda b, n: from_host(n, place_batch(b, mesh)), steps, batch, epochs)
    transfer = rates(iterate(cached, **reading), lambda b, _: place_batch(b, mesh), steps, batch, epochs)
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
        "host_part_alone": transfer,
        "seconds_to_first_batch": {
            str(start): min(first_batch_after(plain, start, reading) for _ in range(5)) for start in (0, FAR_STEP)
        },
    }


def first_batch_after(batches: Any, start: int, reading: dict[str, int]) -> float:
    """Returns the seconds from a new iterator to the batch of step `start`."""
    begin = time.perf_counter()
    iterator = iterate(batches, start=start, **reading)
    next(iterator)
    took = time.perf_counter() - begin
    iterator.close()  # type: ignore[attr-defined]
    return round(took, 4)


def open_pairs(pairs: int) -> dict[str, Any]:
    """Returns the time and memory for opening a folder with that many pairs and reading one batch."""
    with tempfile.TemporaryDirectory() as root:
        for kind, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
            (Path(root) / kind).mkdir()
            Image.fromarray(np.zeros(shape, np.uint8)).save(Path(root) / f"{kind}.png")
            for number in range(pairs):
                os.symlink(Path(root) / f"{kind}.png", Path(root) / kind / f"{number:06d}.png")
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        dataset = folder("all", data_dir=root, values=(0, 1), class_names=("a", "b"))
        opened = time.perf_counter() - begin
        train_batches(dataset, canvas_size=(32, 32), batch_size=16, seed=0)[0]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return {"pairs": len(dataset.source), "seconds_to_open": round(opened, 2), "memory_mib": grown}


def compare(ours: list[str], peer: list[str], rounds: int) -> dict[str, Any]:
    """Runs two commands alternately, and compares the best rate of each over all rounds."""
    results = alternate({"flaxseg": ours, "peer": peer}, rounds)
    theirs = [run["images_per_s_by_epoch"] for run in results["peer"]]
    peer_rates = {"first_epoch": max(epochs[0] for epochs in theirs)}
    compared = {}
    for phase in ("first_epoch", "cached_on_host", "cached_on_device", "host_part_alone"):
        best = max(max(run[phase]) for run in results["flaxseg"])
        compared[phase] = round(best / peer_rates.get(phase, max(max(epochs) for epochs in theirs)), 2)
    return {"rate_relative_to_peer": compared, **results}


def main() -> None:
    """Parses the flags, measures, and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with images/ and annotations/ of Oxford-IIIT Pet")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="number of cached epochs")
    parser.add_argument("--pairs", type=int, help="time opening a folder with that many pairs instead")
    parser.add_argument("--peer", metavar="PYTHON", help="Python interpreter of the peer script")
    parser.add_argument("--peer-script", metavar="SCRIPT")
    parser.add_argument("--rounds", type=int, default=3, help="with --peer: number of runs of each")
    flags = parser.parse_args()
    if bool(flags.peer) != bool(flags.peer_script) or not (flags.root or flags.pairs):
        parser.error("--root or --pairs is required, and --peer requires --peer-script")
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
    print(json.dumps(compare(ours, peer, flags.rounds)))


if __name__ == "__main__":
    main()
