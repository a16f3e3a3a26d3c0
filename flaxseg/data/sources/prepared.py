"""Records of a prepared dataset of TensorFlow Datasets as examples."""

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from flaxseg.data.decode.images import decode_label, decode_reduced, exif_orientation, mask_range_error
from flaxseg.data.decode.intensities import check_finite
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.types import Example, Source
from flaxseg.errors import DataError


@dataclasses.dataclass(frozen=True)
class PreparedSource(Source):
    """Random access to the records of a prepared dataset as examples.

    Attributes:
      records: the result of `flaxseg.data.sources.tfds_records.open_prepared`.
      image_key: the feature with the images, as the bytes of a file or as arrays.
      mask_key: the feature with the masks, as the bytes of a file or as arrays.
      id_key: the feature whose string or number is the id of an example; "" for its index in the split.
      name: the name of the dataset, for messages.
      classes: the mask values of the classes.
      min_size: the height and width that reduced images must not fall below; None decodes images at full size.
    """

    records: Any
    image_key: str
    mask_key: str
    id_key: str
    name: str
    classes: ClassValues
    min_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int, /) -> Example:
        record = self.records[index]
        example_id = self._example_id(record, index)
        name = f"{self.name} {example_id}"
        image, (height, width) = _decode_image(record[self.image_key], name, self.min_size)
        mask = _decode_mask(record[self.mask_key], f"{name} ({self.mask_key})")
        if mask.shape != (height, width):
            raise DataError(
                f"{name}: the mask is {mask.shape[1]}x{mask.shape[0]} (width x height), but the image is "
                f"{width}x{height}; a mask must have the size of its image: prepare the dataset again"
            )
        return {"image": image, "label": self.classes.to_classes(mask, name=name), "id": example_id}

    def example_id(self, index: int) -> str:
        """Returns the `id` of an example; reads its record but decodes no image."""
        return self._example_id(self.records[index], index) if self.id_key else str(index)

    def digest(self) -> str:
        """Returns a digest of the dataset's name, config and version, the split, and the size of its files."""
        info = self.records.dataset_info
        split = info.splits[self.records.split]
        # Slices of one split differ in the parts of the files that they read.
        files = [(os.path.basename(part.filename), part.skip, part.take) for part in split.file_instructions]
        facts = (info.full_name, files, len(self), self.image_key, self.mask_key, self.id_key)
        facts += tuple((name, int(info.splits[name].num_bytes)) for name in sorted(info.splits))
        return hashlib.blake2b(repr(facts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def exif_orientation(self, index: int) -> int:
        """Returns the EXIF orientation that is applied to an image; reads its record but decodes no pixels."""
        stored = self.records[index][self.image_key]
        return exif_orientation(stored, name=f"{self.name} {index}") if isinstance(stored, bytes) else 1

    def reduced(self, size: tuple[int, int]) -> "PreparedSource":
        """Returns the same source with large JPEGs decoded at a fraction of their size, at least `size`."""
        return dataclasses.replace(self, min_size=size)

    def _example_id(self, record: Any, index: int) -> str:
        value = record[self.id_key] if self.id_key else index
        return os.path.splitext(value.decode())[0] if isinstance(value, bytes) else str(value)


def _decode_image(
    stored: bytes | np.ndarray, name: str, min_size: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns the image, and the height and width at which it is stored."""
    if isinstance(stored, bytes):
        return decode_reduced(stored, name=name, min_size=min_size)
    image = np.asarray(stored)
    check_finite(image, name)
    return image, image.shape[:2]


def _decode_mask(stored: bytes | np.ndarray, name: str) -> np.ndarray:
    if isinstance(stored, bytes):
        return decode_label(stored, name=name)
    values = np.asarray(stored)
    if values.min() < 0 or values.max() > 255:
        raise mask_range_error(values, name)
    return values.reshape(values.shape[:2]).astype(np.uint8)
