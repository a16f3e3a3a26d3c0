"""Masks as TIFF files: in tiles, with the colors of the classes, and with the georeference of the image."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags

from flaxseg.data.types import Color

_GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams of the GeoTIFF
standard (OGC 19-008r4), and RPCCoefficient, a sensor model."""

_TILE = 512

ExtraTag = tuple[int, int, int, Any, bool]
"""Code, data type, count, value, and whether only the first page has it; as tifffile takes tags."""


def georeference(path: str) -> list[ExtraTag]:
    """Returns the tags with the coordinate reference system and the transform of a GeoTIFF; none for other images.

    They are copied as they are, which keeps them exactly. The tags of an image that is stored rotated are left out,
    because its mask is upright.

    Args:
      path: a TIFF; its header is read.
    """
    import tifffile

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tifffile.TiffFile(path))
        except tifffile.TiffFileError:
            return []  # Another format under the name of a TIFF.
        tags = file.series[0].keyframe.tags
        orientation = tags.get(ExifTags.Base.Orientation.value)
        if orientation is not None and int(orientation.value) != 1:
            return []
        found = [tags.get(code) for code in _GEOREFERENCE]
        return [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in found if tag is not None]


def write_mask_tiff(
    file: Path | BinaryIO, label: Any, palette: Sequence[Color], *, tags: Sequence[ExtraTag] = ()
) -> None:
    """Writes class indices as a TIFF in tiles compressed with deflate.

    Args:
      file: a path or an open file.
      label: uint8[H, W]; an array, or anything of that shape of which blocks can be read.
      palette: one color per class.
      tags: from `georeference`.

    Raises:
      OSError: the file cannot be written.
    """
    import tifffile

    height, width = label.shape[:2]
    colors = np.zeros((3, 256), np.uint16)
    colors[:, : len(palette)] = np.asarray(palette, np.uint16).T * 257  # A TIFF has colors of 16 bits.
    tifffile.imwrite(
        file,
        _tiles(label),
        shape=(height, width),
        dtype=np.uint8,
        tile=(_TILE, _TILE),
        photometric="palette",
        colormap=colors,
        compression="zlib",
        metadata=None,
        software=False,
        extratags=tags,
    )


def _tiles(label: Any) -> Iterator[np.ndarray]:
    """Yields the tiles in rows; those at the right and lower border are filled with zeros."""
    height, width = label.shape[:2]
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            block = np.asarray(label[top : min(top + _TILE, height), left : min(left + _TILE, width)], np.uint8)
            tile = np.zeros((_TILE, _TILE), np.uint8)
            tile[: block.shape[0], : block.shape[1]] = block.reshape(block.shape[:2])
            yield tile
