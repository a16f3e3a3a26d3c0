"""The images that exported programs are checked on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flaxseg.data.decode.images import decode_image
from flaxseg.data.resize import resize_image
from flaxseg.data.sources.files import read_file
from flaxseg.data.sources.image_files import list_image_files
from flaxseg.deploy.program import Sizes
from flaxseg.errors import DataError
from flaxseg.inference.description import ModelDescription

_BATCH_SIZE = 4
_CELLS = 8


def sample_images(description: ModelDescription, *, count: int, folder: str | Path | None = None) -> list[np.ndarray]:
    """Returns images, float32[H, W, C] in 0..255: the first of a folder, or random ones.

    Random images are smooth at several scales, with noise, so that features at every stride see something.

    Args:
      description: the network, which says how many channels there are.
      count: the number of images; a folder may hold fewer.
      folder: a folder of images; None: random images of the network's `image_size`.

    Raises:
      DataError: there is no such folder, it holds no images, or one of them cannot be used.
    """
    if folder is None:
        rng = np.random.default_rng(0)
        return [_random_image(rng, description.image_size, description.channels) for _ in range(count)]
    if not Path(folder).is_dir():
        raise DataError(f"--data={folder}: is not a folder; give a folder of images")
    names = sorted(list_image_files(str(folder)))[:count]
    if not names:
        raise DataError(f"--data={folder}: holds no images; give a folder of images")
    return [_read(Path(folder) / name, description) for name in names]


def sample_batches(images: list[np.ndarray], sizes: Sizes, default: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the images in batches, resized to sizes that a program accepts.

    The batches differ in size, as do the images where the program allows it.

    Args:
      images: float32[H, W, C] each.
      sizes: the sizes that the program accepts.
      default: the height and width to resize to, rounded up to what the program accepts.
    """
    size = sizes.fixed or (_fitting(default[0], sizes), _fitting(default[1], sizes))
    other = sizes.fixed or (size[0] + sizes.multiple, size[1])
    singles = max(1, len(images) // 5)
    rest = images[singles:]
    for first in range(0, len(rest), _BATCH_SIZE):
        yield np.stack([_resized(image, size) for image in rest[first : first + _BATCH_SIZE]])
    for image in images[:singles]:
        yield _resized(image, other)[None]


def _read(path: Path, description: ModelDescription) -> np.ndarray:
    image = decode_image(read_file(str(path)), name=str(path), value_range=description.value_range)
    if image.shape[-1] != description.channels:
        raise DataError(
            f"{path}: has {image.shape[-1]} channels, and the network takes {description.channels}; give images like "
            "those that it was trained on"
        )
    return image.astype(np.float32)


def _random_image(rng: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    coarse = rng.uniform(0, 255, (_CELLS, _CELLS, channels)).astype(np.float32)
    noise = rng.normal(0, 12, (*size, channels)).astype(np.float32)
    return np.clip(_resized(coarse, size) + noise, 0, 255)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = image if image.shape[:2] == size else resize_image(image, size)
    return resized.reshape(*size, image.shape[-1]).astype(np.float32)


def _fitting(length: int, sizes: Sizes) -> int:
    return max(sizes.smallest, -(-length // sizes.multiple) * sizes.multiple)
