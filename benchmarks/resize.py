"""Compares how images shrink with PyTorch's antialias=True and with Pillow: differences, stripes, and time, as JSON.

`python benchmarks/resize.py --images 'DIR/*.png' --peer PYTHON`, where PYTHON is an interpreter with torch. For each
ratio of the old to the new size it prints the root mean square difference from PyTorch's result, in levels of 0..255;
the remaining deviation of stripes one pixel wide (127.5 at first), here and in PyTorch; and the milliseconds per image
here, of cv2's bilinear resize without a filter, and of Pillow.
"""

import argparse
import glob
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from flaxseg.data.decode.images import decode_image
from flaxseg.data.resize import resize_image

RATIOS = (1.05, 1.15, 1.3, 1.5, 1.7, 1.9, 1.99, 2.01, 2.3, 3, 4, 5, 7, 10)

PEER = """
import sys, numpy as np, torch
torch.set_num_threads(1)
given = np.load(sys.argv[1])
results = {}
for name in given.files:
    if name.endswith("size"): continue
    image = torch.from_numpy(given[name].astype(np.float32).transpose(2, 0, 1).copy())[None]
    size = tuple(given[name + "size"].tolist())
    resized = torch.nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)
    results[name] = resized[0].permute(1, 2, 0).numpy()
np.savez(sys.argv[2], **results)
"""


def resized_by_peer(peer: str, images: dict[str, np.ndarray], sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Returns PyTorch's result for each image, float32[h, w, C]."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, **images, **{f"{name}size": np.array(size) for name, size in sizes.items()})  # type: ignore[arg-type]
        subprocess.run([peer, "-c", PEER, str(given), str(found)], check=True)
        return dict(np.load(found))


def milliseconds(function: Callable[[], Any]) -> float:
    """Returns the shortest time of twenty calls."""
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return round(1000 * min(times), 2)


def compare(images: list[np.ndarray], ratio: float, peer: str) -> dict[str, float]:
    """Returns the differences and times at one ratio."""
    stripes = np.zeros((60, 600, 1), np.uint8)
    stripes[:, ::2] = 255
    given = {f"i{number}": image for number, image in enumerate(images)}
    sizes = {name: (round(image.shape[0] / ratio), round(image.shape[1] / ratio)) for name, image in given.items()}
    given["stripes"], sizes["stripes"] = stripes, (60, round(600 / ratio))
    theirs = resized_by_peer(peer, given, sizes)
    ours = {name: resize_image(image, sizes[name]) for name, image in given.items()}
    squares = [((ours[name] - theirs[name]) ** 2).mean() for name in given if name != "stripes"]
    inner = np.s_[20:-20, 15:-15]
    image, size = images[0], sizes["i0"]
    pillow = Image.fromarray(image)
    return {
        "ratio": ratio,
        "difference": round(float(np.sqrt(np.mean(squares))), 2),
        "stripes": round(float(ours["stripes"][inner].std()), 1),
        "stripes_of_peer": round(float(theirs["stripes"][inner].std()), 1),
        "ms": milliseconds(lambda: resize_image(image, size)),
        "ms_without_filter": milliseconds(lambda: cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)),
        "ms_of_pillow": milliseconds(lambda: np.asarray(pillow.resize(size[::-1], Image.Resampling.BILINEAR))),
    }


def main() -> None:
    """Parses the flags and prints one line of JSON for each ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="pattern of image files")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--peer", metavar="PYTHON", required=True)
    flags = parser.parse_args()
    cv2.setNumThreads(0)
    paths = sorted(glob.glob(flags.images))[: flags.count]
    images = [decode_image(Path(path).read_bytes(), name=path) for path in paths]
    for ratio in RATIOS:
        print(json.dumps(compare(images, ratio, flags.peer)), flush=True)


if __name__ == "__main__":
    main()
