"""Pairs of an image file and a mask file as examples."""

import dataclasses

import numpy as np

from flaxseg.data.decode.images import decode_image, decode_label, decode_reduced, exif_orientation
from flaxseg.data.decode.intensities import ValueRange, convert_channels
from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.masks.class_colors import ClassColors
from flaxseg.data.masks.class_values import ClassValues, MaskValue
from flaxseg.data.sources.files import UnchangedFiles
from flaxseg.data.sources.pairs import Pair
from flaxseg.data.sources.wrappers import digest_ids
from flaxseg.data.types import IGNORE_LABEL, Example, Source
from flaxseg.errors import DataError


@dataclasses.dataclass(frozen=True)
class PairSource(Source):
    """Random access to the examples in pairs of files; a file that changes after it was first read is an error.

    Attributes:
      pairs: the files; all pixels of an image without a mask are ignored.
      classes: the mask values or colors of the classes.
      files: reads the files; the image of pair i has the number 2 * i, its mask the number 2 * i + 1.
      max_megapixels: images and masks of more million pixels are rejected.
      value_range: the stored values that become 0 and 255. See `flaxseg.data.decode.intensities.to_intensities`.
      channels: 1 or 3 converts every image to gray or RGB; 0 keeps the channels of the files.
      min_size: the height and width that reduced images must not fall below; None decodes images at full size.
      found_values: the mask values of the classes, if only the masks define them; () otherwise.
    """

    pairs: tuple[Pair, ...]
    classes: ClassValues | ClassColors
    files: UnchangedFiles
    max_megapixels: float = MAX_MEGAPIXELS
    value_range: ValueRange | None = None
    channels: int = 0
    min_size: tuple[int, int] | None = None
    found_values: tuple[MaskValue, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"pairs of files, the first {self.pairs[0].image}" if self.pairs else "no pairs of files"

    def __getitem__(self, index: int, /) -> Example:
        pair = self.pairs[index]
        image, (height, width) = self._image(index, pair.image)
        if not pair.mask:
            return {"image": image, "label": np.full((height, width), IGNORE_LABEL, np.uint8), "id": pair.stem}
        mask = self._mask(index, pair.mask)
        if mask.shape[:2] != (height, width):
            raise DataError(
                f"{pair.mask}: is {mask.shape[1]}x{mask.shape[0]} (width x height), but its image {pair.image} is "
                f"{width}x{height} as displayed (after its EXIF orientation); a mask must have the size of its image: "
                "export one of them again"
            )
        return {"image": image, "label": self.classes.to_classes(mask, name=pair.mask), "id": pair.stem}

    def example_id(self, index: int) -> str:
        """Returns the stem of a pair; reads no file."""
        return self.pairs[index].stem

    def digest(self) -> str:
        """Returns the digest of the stems, which is the same wherever the folder is.

        It includes values found in the masks, unless they are 0, 1, 2, ..., so that a run is not resumed where masks
        would be read in another way.
        """
        stems = [pair.stem for pair in self.pairs]
        numbered = self.found_values == tuple(range(len(self.found_values)))
        return digest_ids(stems if numbered else [*stems, f"values {self.found_values}"])

    def exif_orientation(self, index: int) -> int:
        """Returns the EXIF orientation that is applied to an image; reads the file but decodes no pixels."""
        path = self.pairs[index].image
        return exif_orientation(self.files.read(2 * index, path), name=path, max_megapixels=self.max_megapixels)

    def reduced(self, size: tuple[int, int]) -> "PairSource":
        """Returns the same source with large JPEGs decoded at a fraction of their size, at least `size`."""
        return dataclasses.replace(self, min_size=size)

    def _image(self, index: int, path: str) -> tuple[np.ndarray, tuple[int, int]]:
        image, size = decode_reduced(
            self.files.read(2 * index, path),
            name=path,
            min_size=self.min_size,
            max_megapixels=self.max_megapixels,
            value_range=self.value_range,
        )
        return convert_channels(image, self.channels, name=path), size

    def _mask(self, index: int, path: str) -> np.ndarray:
        """Returns uint8[H, W] of mask values, or uint8[H, W, 3] if classes are given by colors."""
        data = self.files.read(2 * index + 1, path)
        if isinstance(self.classes, ClassValues):
            return decode_label(data, name=path, max_megapixels=self.max_megapixels)
        return decode_image(data, name=path, max_megapixels=self.max_megapixels)
