"""Prediction of an image that is larger than memory: tiles are read from one memory map and written to another.

    python examples/tiled_prediction.py

The tiles overlap so far that the result equals that of the whole image, for networks where this is possible; otherwise
`BlendTiling` averages overlapping tiles. With a run that kept the scale of its images (data.resize=keep), all of this
is `flaxseg.load(RUN, tiling="exact").predict_into(image, mask)`, or, for TIFF and NPY files,

    flaxseg predict --model=RUN --input=huge.tif --output=predictions --tiling=exact
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from flaxseg import plain_unet
from flaxseg.inference.exactness import exact_tiling, verify_exact
from flaxseg.inference.forward import inference_logits
from flaxseg.inference.tiling import overhead, tiled_logits

MODEL = plain_unet(num_classes=3, width=4, depth=1)


def write_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Writes an image uint8[H, W, 3] row by row, and returns it as a memory map."""
    image = np.lib.format.open_memmap(path, "w+", np.uint8, (*size, 3))
    for row in range(size[0]):
        image[row] = np.random.default_rng(row).integers(0, 256, (size[1], 3))
    image.flush()
    return np.load(path, mmap_mode="r")


def main(folder: str = "runs/tiled", size: tuple[int, int] = (4096, 4096), tile: int = 512) -> tuple[float, float]:
    """Predicts a large image; returns how many pixels of a part equal those of the part predicted at once, and by how
    much tiling multiplies the computation.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    image = write_image(Path(folder, "image.npy"), size)
    mask = np.lib.format.open_memmap(Path(folder, "mask.npy"), "w+", np.uint8, size)
    # Random weights stand for those of a trained network.
    variables = jax.jit(lambda key: MODEL.init(key, jnp.zeros((1, 8, 8, 3)), train=False))(jax.random.key(0))
    logits_fn = jax.jit(lambda image: inference_logits(variables, image, model=MODEL))

    tiling = exact_tiling(MODEL, variables, channels=3)
    error = verify_exact(logits_fn, tile=tile, tiling=tiling, channels=3)
    print(f"tiles of {tile} with a halo of {tiling.halo} pixels: error {error:.1e}")
    # The device holds two tiles at a time, and the host a few; neither grows with the image.
    tiled_logits(
        logits_fn, image, tile=tile, tiling=tiling, out=mask, reduce=lambda logits: logits.argmax(-1).astype(np.uint8)
    )
    mask.flush()

    rows, columns = (min(length, 2 * tile) for length in size)
    whole = np.asarray(logits_fn(np.asarray(image[:rows, :columns], np.float32)[None]))[0].argmax(-1)
    # The part has a border of its own at its lower right, where it differs from the same pixels of the whole image.
    inner = slice(rows - tiling.halo), slice(columns - tiling.halo)
    equal = float((whole[inner] == mask[inner]).mean())
    more = overhead(size, tile=tile, tiling=tiling)
    print(f"{size}: {100 * equal:.3f}% of the pixels as predicted at once, {more:.2f} times the computation")
    return equal, more


if __name__ == "__main__":
    main()
