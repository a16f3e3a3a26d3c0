"""Pairs of picture and mask files as examples."""

import dataclasses
import hashlib

import numpy as np

from flaxseg.data.decode.images import decode_image, decode_label, decode_reduced, orientation_of
from flaxseg.data.decode.intensities import ValueRange, with_channels
from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.masks.class_colors import ClassColors
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.sources.files import UnchangedFiles
from flaxseg.data.sources.pairs import Pair
from flaxseg.data.types import Example
from flaxseg.errors import DataError


@dataclasses.dataclass(frozen=True)
class PairSource:
    """Random access to the examples of pairs of files; a file that changes after its first reading is refused.

    Attributes:
      pairs: the files.
      classes: which mask value or color is which class.
      files: reads them; picture i is number 2 * i, its mask the one after.
      max_megapixels: larger pictures and masks are refused.
      value_range: the stored values that become 0 and 255, as of `flaxseg.data.decode.intensities.to_intensities`.
      channels: 1 or 3 to make gray or RGB of every picture; 0 to take them as they are.
      at_least: the height and width that reduced pictures must not go below; None for pictures as stored.
    """

    pairs: tuple[Pair, ...]
    classes: ClassValues | ClassColors
    files: UnchangedFiles
    max_megapixels: float = MAX_MEGAPIXELS
    value_range: ValueRange | None = None
    channels: int = 0
    at_least: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        pair = self.pairs[index]
        image, (height, width) = self._image(index, pair.image)
        mask = self._mask(index, pair.mask)
        if mask.shape[:2] != (height, width):
            raise DataError(
                f"{pair.mask}: is {mask.shape[1]}x{mask.shape[0]} (width x height), but its picture {pair.image} is "
                f"{width}x{height} as displayed (EXIF orientation carried out); "
                "a mask has its picture's size: export one of them again"
            )
        return {"image": image, "label": self.classes.to_classes(mask, name=pair.mask), "id": pair.stem}

    def id_of(self, index: int) -> str:
        """As `flaxseg.data.types.identity`."""
        return self.pairs[index].stem

    def orientation_of(self, index: int) -> int:
        """As `flaxseg.data.types.orientation_of`."""
        path = self.pairs[index].image
        return orientation_of(self.files.read(2 * index, path), name=path, max_megapixels=self.max_megapixels)

    def digest(self) -> str:
        """As `flaxseg.data.types.digest`; wherever the files lie."""
        stems = "\0".join(pair.stem for pair in self.pairs)
        return hashlib.blake2b(stems.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def reduced_to(self, size: tuple[int, int]) -> "PairSource":
        """As `flaxseg.data.types.reduced`."""
        return dataclasses.replace(self, at_least=size)

    def _image(self, index: int, path: str) -> tuple[np.ndarray, tuple[int, int]]:
        image, size = decode_reduced(
            self.files.read(2 * index, path),
            name=path,
            at_least=self.at_least,
            max_megapixels=self.max_megapixels,
            value_range=self.value_range,
        )
        return with_channels(image, self.channels, name=path), size

    def _mask(self, index: int, path: str) -> np.ndarray:
        """uint8[H, W] of values, or uint8[H, W, 3] where classes have colors."""
        data = self.files.read(2 * index + 1, path)
        if isinstance(self.classes, ClassValues):
            return decode_label(data, name=path, max_megapixels=self.max_megapixels)
        return decode_image(data, name=path, max_megapixels=self.max_megapixels)
