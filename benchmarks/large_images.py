"""Measures the memory and the time of predicting an image in blocks from a file to a file.

    python benchmarks/large_images.py FOLDER --size 20000 --kind tiff --tiling exact --tile 2048

The image is noise that is written in blocks. The network is a small U-Net with random weights.
"""

import argparse
import functools
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tifffile

from flaxseg.data.masks.palette import default_palette
from flaxseg.deploy.large_images import predict_large
from flaxseg.deploy.predictor import Predictor
from flaxseg.deploy.saved import SavedModel
from flaxseg.inference.description import ModelDescription, resolved_options
from flaxseg.models import build_model

OPTIONS = {"width": 2, "depth": 1}
CLASSES = 3
BLOCK = 512


def saved_model() -> SavedModel:
    """Returns a network with random weights that keeps the scale of images."""
    model = build_model("plain_unet", num_classes=CLASSES, **OPTIONS)
    description = ModelDescription(
        name="plain_unet",
        options=resolved_options("plain_unet", OPTIONS),
        num_classes=CLASSES,
        channels=3,
        image_size=(BLOCK, BLOCK),
        class_names=tuple(map(str, range(CLASSES))),
        palette=default_palette(CLASSES),
        mean=model.mean,
        std=model.std,
        resize="keep",
    )
    init = jax.jit(functools.partial(model.init, train=False))
    variables = jax.device_get(init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)))
    return SavedModel("random", description, model, dict(variables))


def write_image(path: Path, size: int) -> None:
    """Writes an NPY file, or a TIFF in tiles compressed with deflate, uint8[size, size, 3]."""
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, BLOCK, 3)).astype(np.uint8)
    count = -(-size // BLOCK)
    if path.suffix == ".npy":
        rows = np.tile(block, (1, count, 1))[:, :size]
        with open(path, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (size, size, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for top in range(0, size, BLOCK):
                file.write(np.ascontiguousarray(rows[: min(BLOCK, size - top)]).data)
        return
    tiles: Iterator[np.ndarray] = (block for _ in range(count * count))
    options: dict[str, Any] = {"dtype": np.uint8, "tile": (BLOCK, BLOCK), "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, tiles, shape=(size, size, 3), **options)


def main() -> None:
    """Prints the largest resident memory and the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the image and the mask are written")
    parser.add_argument("--size", type=int, default=12_000, help="height and width of the image (default: 12000)")
    parser.add_argument("--kind", choices=("npy", "tiff"), default="tiff", help="format of the image (default: tiff)")
    parser.add_argument("--tiling", choices=("exact", "blend"), default="exact", help="default: exact")
    parser.add_argument("--tile", type=int, default=2048, help="height and width of the tiles (default: 2048)")
    arguments = parser.parse_args()
    suffix = ".npy" if arguments.kind == "npy" else ".tif"
    image = arguments.folder / f"image{arguments.size}{suffix}"
    if not image.exists():
        write_image(image, arguments.size)
    model = Predictor([saved_model()], tile=arguments.tile, tiling=arguments.tiling, batch_size=2)
    start = time.perf_counter(), time.process_time()
    predict_large(model, str(image), arguments.folder / f"mask{arguments.size}{suffix}")
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    # Kibibytes, but bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(
        f"{image.name}, {arguments.tiling}, tiles of {arguments.tile}: {peak:,.0f} MiB, {wall:.0f} s, {cpu:.0f} s CPU"
    )


if __name__ == "__main__":
    main()
