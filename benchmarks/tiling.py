"""Compares tiled logits with those of the whole image, and measures the memory that tiling takes; prints JSON.

`python benchmarks/tiling.py exact --image FILE` tiles an image of 1500 x 2100 pixels, resized from FILE, with networks
of random parameters. `python benchmarks/tiling.py memory` predicts memory-mapped images of 4096 x 4096 and 12,000 x
12,000 pixels, each in a process of its own, and prints the largest anonymous memory of each (Linux only).
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from flaxseg.inference.exactness import exact_tiling
from flaxseg.inference.forward import inference_logits
from flaxseg.inference.tiling import BlendTiling, ExactTiling, LogitsFn, Tiling, overhead, tiled_logits
from flaxseg.models import build_model

SIZE = (1500, 2100)
NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("plain_unet", {}, 704),
    ("unet", {"encoder": "resnet34"}, 1504),
    ("unetplusplus", {"encoder": "resnet34"}, 1504),
    ("linknet", {"encoder": "resnet34"}, 1504),
]
"""The networks, their options, and the tile."""


def network(name: str, **options: Any) -> tuple[ExactTiling, LogitsFn]:
    """Returns the exact tiling of a network of random parameters for 3 classes, and its logits."""
    model: Any = build_model(name, num_classes=3, **options)
    image = jnp.zeros((1, 64, 64, 3))
    variables = jax.jit(lambda key: model.init(key, image, train=False))(jax.random.key(0))
    return exact_tiling(model, variables, 3), jax.jit(lambda x: inference_logits(variables, x, model=model))


def compare(image: np.ndarray, name: str, options: dict[str, Any], tile: int, filled: bool) -> dict[str, Any]:
    """Returns how much the logits of tiles differ from those of the whole image.

    With `filled`, tiles are padded before the network, as `exact_tiling` does, and the whole image within it. These are
    two programs, whose rounding can differ.
    """
    start = time.perf_counter()
    tiling, logits_fn = network(name, **options)
    if not filled:
        tiling = dataclasses.replace(tiling, fill=None)
    made = time.perf_counter() - start
    whole = np.asarray(logits_fn(image[None]))[0]
    tiled = tiled_logits(logits_fn, image, tile=tile, tiling=tiling)
    return {
        "network": name,
        **options,
        "halo": tiling.halo,
        "stride": tiling.stride,
        "tile": tile,
        "filled": filled,
        "pixels computed per pixel": round(overhead(SIZE, tile=tile, tiling=tiling), 2),
        "largest difference relative to the largest logit": float(np.abs(tiled - whole).max() / np.abs(whole).max()),
        "pixels of another class": int((tiled.argmax(-1) != whole.argmax(-1)).sum()),
        "seconds to find the halo and initialize": round(made, 1),
    }


def anonymous_memory() -> int:
    """Returns the process's resident memory without the pages of mapped files, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def predict_mapped(folder: Path, size: int, tiling_name: str) -> dict[str, Any]:
    """Returns the memory that a prediction of a memory-mapped image takes at most."""
    exact, logits_fn = network("plain_unet", width=2, depth=1)
    tiling: Tiling = exact if tiling_name == "exact" else BlendTiling(overlap=0.25)
    image = np.memmap(folder / "image", np.uint8, "w+", shape=(size, size, 3))
    for row in range(0, size, 500):
        image[row : row + 500] = np.arange(size, dtype=np.uint16)[:, None] % 251
    out = np.memmap(folder / "mask", np.uint8, "w+", shape=(size, size))
    before, peak = anonymous_memory(), 0

    def reduce(logits: np.ndarray) -> np.ndarray:
        nonlocal peak
        peak = max(peak, anonymous_memory())
        return logits.argmax(-1).astype(np.uint8)

    tiled_logits(logits_fn, image, tile=512, tiling=tiling, batch_size=2, reduce=reduce, out=out)
    return {"tiling": tiling_name, "size": size, "MiB before": before, "MiB at most": peak}


def main() -> None:
    """Parses the arguments, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("exact", "memory", "one"))
    parser.add_argument("--image", help="an image file, for `exact`")
    parser.add_argument("--network", help="compare this network only")
    parser.add_argument("--filled", action="store_true", help="pad tiles before the network, for `exact`")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 12000], help="heights and widths, for `memory`")
    parser.add_argument("--tiling", choices=("exact", "blend"), default="exact")
    args = parser.parse_args()
    if args.part == "exact":
        loaded = cv2.imread(args.image)
        if loaded is None:
            parser.error(f"{args.image} is no image")
        image = cv2.resize(loaded, SIZE[::-1], interpolation=cv2.INTER_CUBIC)[..., ::-1]
        for name, options, tile in NETWORKS:
            if args.network in (None, name):
                print(json.dumps(compare(image, name, options, tile, args.filled)), flush=True)
    elif args.part == "memory":
        for tiling in ("exact", "blend"):
            for size in args.sizes:
                command = [sys.executable, __file__, "one", "--sizes", str(size), "--tiling", tiling]
                subprocess.run(command, check=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(predict_mapped(Path(folder), args.sizes[0], args.tiling)), flush=True)


if __name__ == "__main__":
    main()
