"""A few images of a dataset in one file, as a network takes them, for checks that should not need the dataset."""

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxseg.data.decode.limits import check_regular
from flaxseg.data.resize import resize_image, resize_label, scaled_size
from flaxseg.data.types import Example, SegmentationDataset
from flaxseg.errors import DataError, reason

MAX_SAMPLES = 20
MAX_BYTES = 2**25
"""The largest number of bytes of all pixels and labels together, before they are compressed."""


_MAX_EXPANSION = 20
"""How much a file of more than MAX_BYTES, which has a single sample, may unpack to; images hardly compress."""


@dataclasses.dataclass(frozen=True)
class StoredSample:
    """An image and its label, as a network takes them.

    Attributes:
      image: uint8 or float32[H, W, C] in 0..255.
      label: uint8[H, W], class indices and IGNORE_LABEL.
      id: the name of the example in its dataset.
    """

    image: np.ndarray
    label: np.ndarray
    id: str


def take_samples(
    dataset: SegmentationDataset, *, image_size: tuple[int, int], scale: float | None = None
) -> list[StoredSample]:
    """Returns a few examples at equal distances in a dataset, always the same ones.

    There are at most MAX_SAMPLES of them, and fewer, but at least one, where they would exceed MAX_BYTES.

    Args:
      dataset: the dataset.
      image_size: the height and width that images are resized to, or at most have.
      scale: None resizes every image to `image_size`. A number multiplies the sides of every image, whose center of at
        most `image_size` is taken.

    Raises:
      DataError: an example cannot be read, or the dataset is empty.
    """
    source = dataset.source.reduced(image_size) if scale is None else dataset.source
    if not len(source):
        raise DataError("the dataset to take samples from is empty; give another split")
    pixel_bytes = source[0]["image"][0, 0].nbytes + 1
    most = max(1, MAX_BYTES // (image_size[0] * image_size[1] * pixel_bytes))
    count = min(MAX_SAMPLES, len(source), most)
    return [_sample(source[index * len(source) // count], image_size, scale) for index in range(count)]


def write_samples(path: Path, samples: Sequence[StoredSample]) -> None:
    """Writes samples to a compressed NPZ file, whole or not at all.

    It holds `image_0`, `label_0`, `image_1`, and so on, and `id`, the names.

    Raises:
      OSError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {"id": np.array([sample.id for sample in samples])}
    for index, sample in enumerate(samples):
        arrays |= {f"image_{index}": sample.image, f"label_{index}": sample.label}
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(new, path)


def read_samples(path: Path) -> list[StoredSample]:
    """Returns the samples in a file.

    Raises:
      DataError: it is not a file of samples, or damaged.
    """
    try:
        check_regular(str(path))
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            allowed = max(2 * MAX_BYTES, _MAX_EXPANSION * path.stat().st_size)
            if size > allowed:
                raise ValueError(f"it unpacks to {size:,} bytes, and at most {allowed:,} are read")
            names = _array(archive, "id", 1, "U")
            if len(names) > MAX_SAMPLES:
                raise ValueError(f"it contains {len(names)} samples, and at most {MAX_SAMPLES} are read")
            return [_stored(archive, index, str(name)) for index, name in enumerate(names)]
    # zipfile and NumPy raise nearly any kind for damaged files.
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as the samples of a run ({reason(error)}); restore or delete it"
        ) from error


def center_crop(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the center of an array [H, W, ...] of at most `size`."""
    top, left = ((length - min(length, new)) // 2 for length, new in zip(array.shape, size, strict=False))
    return np.ascontiguousarray(array[top : top + size[0], left : left + size[1]])


def _stored(archive: zipfile.ZipFile, index: int, name: str) -> StoredSample:
    image, label = _array(archive, f"image_{index}", 3, "uf"), _array(archive, f"label_{index}", 2, "u")
    if image.dtype not in (np.uint8, np.float32) or label.dtype != np.uint8 or image.shape[:2] != label.shape:
        raise ValueError(
            f"sample {index} is {image.dtype}{list(image.shape)} with a label {label.dtype}{list(label.shape)}"
        )
    return StoredSample(image, label, name)


def _array(archive: zipfile.ZipFile, name: str, ndim: int, kinds: str) -> np.ndarray:
    """Returns an array of an NPZ file; unlike numpy.load, memory is allocated only for what the file contains."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as opened:
        file = io.BytesIO(opened.read(member.file_size))
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has another version of the format than 1.0")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if len(shape) != ndim or dtype.kind not in kinds:
        raise ValueError(f"{name} is {dtype} of shape {shape}")
    return np.frombuffer(file.getbuffer(), dtype, math.prod(shape), file.tell()).reshape(
        shape, order="F" if is_fortran else "C"
    )


def _sample(example: Example, image_size: tuple[int, int], scale: float | None) -> StoredSample:
    size = image_size if scale is None else scaled_size(example["label"].shape, scale)
    image, label = resize_image(example["image"], size), resize_label(example["label"], size)
    return StoredSample(center_crop(image, image_size), center_crop(label, image_size), example["id"])
