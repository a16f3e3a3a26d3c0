"""The images that exported programs are checked on: those of a run, of a folder, or random ones."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from flaxseg.data.decode.images import decode_image
from flaxseg.data.resize import resize_image, resize_label, scaled_size
from flaxseg.data.sources.files import read_file
from flaxseg.data.sources.image_files import list_image_files
from flaxseg.data.stored_samples import center_crop, read_samples
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.deploy.evaluation import check_same_classes
from flaxseg.deploy.evaluation_data import evaluation_config, open_evaluation_data
from flaxseg.deploy.program import Sizes
from flaxseg.deploy.saved import SavedModel
from flaxseg.errors import DataError
from flaxseg.inference.description import ModelDescription
from flaxseg.inference.forward import padding_value
from flaxseg.train.workdir import SAMPLES

_BATCH_SIZE = 4
_CELLS = 8


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image, and its label if it has one.

    Attributes:
      image: uint8 or float32[H, W, C] in 0..255.
      label: uint8[H, W], class indices and IGNORE_LABEL; None if unknown.
    """

    image: np.ndarray
    label: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images that are read one by one, whenever they are needed.

    Attributes:
      name: what they are, such as "images of the folder photos".
      count: how many there are.
      read: returns one, by its index, at the scale that the network takes.
    """

    name: str
    count: int
    read: Callable[[int], Sample]

    def __str__(self) -> str:
        return f"{self.count} {self.name}"


def find_samples(saved: SavedModel, *, count: int, data: str | Path | None = None) -> Samples:
    """Returns the images to check the exports of a network on.

    Args:
      saved: the network.
      count: the largest number of images.
      data: a folder of images, or one with the folders `images` and `masks`, as `flaxseg.evaluate` takes it. None: the
        samples that are stored in the network's run, or random images if there are none.

    Raises:
      DataError: there is no such folder, it holds no images, or the samples are damaged.
      ConfigError, ArgumentError: the masks do not fit the network.
    """
    if data is not None:
        if not Path(data).is_dir():
            raise DataError(f"--data={data}: is not a folder; give a folder of images")
        has_masks = all((Path(data) / name).is_dir() for name in ("images", "masks"))
        return (_masked if has_masks else _unmasked)(saved, Path(data), count)
    file = saved.folder / SAMPLES if saved.folder else None
    if file and file.is_file():
        stored = read_samples(file)[:count]
        return Samples("of the run's stored samples", len(stored), lambda i: Sample(stored[i].image, stored[i].label))
    return Samples("random images", count, lambda index: _random(saved.description, index))


def sample_batches(samples: Samples, sizes: Sizes, saved: SavedModel) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yields images float32[B, H, W, C] and labels uint8[B, H, W] in batches, of sizes that a program accepts.

    Images of a network that keeps their scale are cropped or padded, others resized. The batches differ in size, as do
    the images where the program allows it.

    Args:
      samples: from `find_samples`.
      sizes: the sizes that the program accepts.
      saved: the network; the size that it was trained on, rounded up to what the program accepts, is that of most.
    """
    default = saved.description.image_size
    height, width = sizes.fixed or (_fitting(default[0], sizes), _fitting(default[1], sizes))
    other = sizes.fixed or (height + sizes.multiple, width + 2 * sizes.multiple)
    singles = max(1, samples.count // 5)
    for first in range(singles, samples.count, _BATCH_SIZE):
        yield _batch(samples, range(first, min(first + _BATCH_SIZE, samples.count)), (height, width), saved)
    for index in range(singles):
        yield _batch(samples, range(index, index + 1), other, saved)


def _batch(
    samples: Samples, indices: range, size: tuple[int, int], saved: SavedModel
) -> tuple[np.ndarray, np.ndarray | None]:
    fitted = [_fitted(samples.read(index), size, saved) for index in indices]
    images = np.stack([sample.image for sample in fitted]).astype(np.float32)
    labels = [sample.label for sample in fitted if sample.label is not None]
    return images, np.stack(labels) if labels else None


def _fitted(sample: Sample, size: tuple[int, int], saved: SavedModel) -> Sample:
    """Returns a sample at another size."""
    image, label = sample.image, sample.label
    if saved.description.resize == "stretch":
        return Sample(_resized(image, size), None if label is None else resize_label(label, size))
    image = center_crop(image, size)
    canvas = np.full((*size, image.shape[-1]), padding_value(saved.model, image.shape[-1]), np.float32)
    canvas[: image.shape[0], : image.shape[1]] = image
    if label is None:
        return Sample(canvas)
    label = center_crop(label, size)
    padding = [(0, new - length) for new, length in zip(size, label.shape, strict=True)]
    return Sample(canvas, np.pad(label, padding, constant_values=IGNORE_LABEL))


def _masked(saved: SavedModel, folder: Path, count: int) -> Samples:
    data = open_evaluation_data(evaluation_config(saved, data=str(folder)))
    check_same_classes(saved.description, data.dataset)
    source = data.dataset.source

    def read(index: int) -> Sample:
        example = source[index]
        image = _scaled(_checked(example["image"], example["id"], saved.description), saved.description)
        return Sample(image, resize_label(example["label"], image.shape[:2]))

    return Samples(f"images and masks of the folder {folder.resolve().name}", min(count, len(source)), read)


def _unmasked(saved: SavedModel, folder: Path, count: int) -> Samples:
    names = sorted(list_image_files(str(folder)))[:count]
    if not names:
        raise DataError(f"--data={folder}: holds no images; give a folder of images, or of images/ and masks/")

    def read(index: int) -> Sample:
        path = str(folder / names[index])
        image = decode_image(read_file(path), name=path, value_range=saved.description.value_range)
        return Sample(_scaled(_checked(image, path, saved.description), saved.description))

    return Samples(f"images of the folder {folder.resolve().name}", len(names), read)


def _checked(image: np.ndarray, name: str, description: ModelDescription) -> np.ndarray:
    if image.shape[-1] != description.channels:
        raise DataError(
            f"{name}: has {image.shape[-1]} channels, and the network takes {description.channels}; give images like "
            "those that it was trained on"
        )
    return image


def _scaled(image: np.ndarray, description: ModelDescription) -> np.ndarray:
    """Returns an image at the scale that the network takes, where it keeps the scale of images."""
    return (
        image if description.resize == "stretch" else _resized(image, scaled_size(image.shape[:2], description.scale))
    )


def _random(description: ModelDescription, index: int) -> Sample:
    """Returns a random image, smooth at several scales, with noise, so that features at every stride see something."""
    rng, size = np.random.default_rng(index), description.image_size
    coarse = rng.uniform(0, 255, (_CELLS, _CELLS, description.channels)).astype(np.float32)
    noise = rng.normal(0, 12, (*size, description.channels)).astype(np.float32)
    return Sample(np.clip(_resized(coarse, size) + noise, 0, 255))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = image if image.shape[:2] == size else resize_image(image, size)
    return resized.reshape(*size, image.shape[-1])


def _fitting(length: int, sizes: Sizes) -> int:
    return max(sizes.smallest, -(-length // sizes.multiple) * sizes.multiple)
