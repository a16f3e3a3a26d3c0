"""TIFF and NPY files that are larger than memory: only the blocks that are asked for are read."""

import contextlib
import dataclasses
import math
import operator
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import ExifTags

from flaxseg.data.decode.limits import REMEDY, check_regular, decoding_errors
from flaxseg.data.decode.tiff_npy import axes_by_shape, channels_last, compression_error, read_npy_header, tiff_axes
from flaxseg.data.decode.tiff_pages import check_pages
from flaxseg.errors import DataError

SUFFIXES = (".tif", ".tiff", ".npy")
"""The extensions of files that can be read in blocks."""

_CACHE_BYTES = 2**28
"""The memory for decoded parts of a compressed TIFF: enough for a row of tiles, which read the same parts in turn."""


class BlockReader(Protocol):
    """An image of which blocks are read."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        ...

    @property
    def palette(self) -> np.ndarray | None:
        """The color of each value in a palette file, uint8[N, 3], or None."""
        ...

    def __getitem__(self, key: tuple[slice, slice], /) -> np.ndarray:
        """Returns rows and columns, [h, w, C] of the stored dtype."""
        ...

    def close(self) -> None:
        """Closes the file."""


def open_blocks(path: str) -> BlockReader:
    """Opens a TIFF or NPY file, whose axes are those of `read_array`.

    Of an uncompressed file, the pixels that are asked for are read. Of any other TIFF, its tiles or strips are decoded
    and a limited number of them is kept.

    Raises:
      DataError: the file cannot be read or decoded, or not in blocks: a TIFF that is rotated by its orientation, whose
        channels are pages, or whose strips are too large.
    """
    with decoding_errors(path):
        check_regular(path)
        found = _open_npy(path) if Path(path).suffix.lower() == ".npy" else _open_tiff(path)
        if 0 in found.shape:
            found.close()
            raise DataError(f"{path}: has the shape {list(found.shape)}, so it contains no pixels; {REMEDY}")
        return found


def stored_size(path: str) -> tuple[int, int] | None:
    """Returns the height and width in the header of a TIFF or NPY file; None for other and for damaged files."""
    if Path(path).suffix.lower() not in SUFFIXES:
        return None
    try:
        with decoding_errors(path):
            check_regular(path)
            if Path(path).suffix.lower() == ".npy":
                with open(path, "rb") as file:
                    shape = read_npy_header(file, path)[0]
                axes = axes_by_shape(shape)
            else:
                shape, axes = _tiff_shape(path)
    except DataError:
        return None
    return shape[axes[0]], shape[axes[1]]


def row_blocks(image: BlockReader, *, num_bytes: int = 2**24) -> Iterator[np.ndarray]:
    """Yields all rows of an image [h, W, C], as many at a time as take about `num_bytes`."""
    row_bytes = image.shape[1] * image[:1, :1].nbytes
    step = max(num_bytes // row_bytes, 1)
    for first in range(0, image.shape[0], step):
        yield image[first : min(first + step, image.shape[0]), 0 : image.shape[1]]


@dataclasses.dataclass(frozen=True)
class _MappedArray:
    """An uncompressed array in a file. It is mapped anew for each block, so that no pages of it stay in memory."""

    path: str
    dtype: np.dtype
    offset: int
    stored: tuple[int, ...]
    axes: tuple[int, ...]
    order: Any = "C"
    palette: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        channels = self.stored[self.axes[2]] if len(self.axes) == 3 else 1
        return self.stored[self.axes[0]], self.stored[self.axes[1]], channels

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        index = [slice(None)] * len(self.stored)
        index[self.axes[0]], index[self.axes[1]] = key
        with decoding_errors(self.path):
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.stored, self.order)
            block = np.array(mapped[tuple(index)], self.dtype.newbyteorder("="))
        return channels_last(block, self.axes)

    def close(self) -> None:
        """Does nothing, because the file is open only while it is read."""


class _SegmentedPage:
    """A page of a TIFF in compressed or separate tiles or strips, a number of which is kept decoded."""

    def __init__(self, path: str, file: Any, page: Any, palette: np.ndarray | None) -> None:
        self.palette = palette
        self._path, self._file, self._page = path, file, page
        self._is_planar = page.planarconfig == 2 and page.samplesperpixel > 1
        # Damaged tags may have other types, such as float.
        height, width, channels = map(operator.index, (page.imagelength, page.imagewidth, page.samplesperpixel))
        self.shape = (height, width, channels)
        sides = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        self._segment = min(operator.index(sides[0]), height), operator.index(sides[1])
        self._grid = tuple(-(-side // part) for side, part in zip(self.shape, self._segment, strict=False))
        self._decoded: OrderedDict[int, np.ndarray | None] = OrderedDict()
        samples = 1 if self._is_planar else page.samplesperpixel
        self._segment_bytes = math.prod(self._segment) * samples * page.dtype.itemsize
        if self._segment_bytes > _CACHE_BYTES:
            raise DataError(
                f"{path}: is a compressed TIFF with strips of {self._segment[0]:,} rows, "
                f"{self._segment_bytes / 2**20:,.0f} MiB each, which can only be decoded whole; save it in tiles: "
                "gdal_translate -co TILED=YES -co COMPRESS=DEFLATE OLD.tif NEW.tif"
            )

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (part.indices(side) for part, side in zip(key, self.shape, strict=False))
        fill = self._page.nodata if self._page.nodata else 0
        block = np.full((bottom - top, right - left, self.shape[2]), fill, self._page.dtype)
        height, width = self._segment
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                y, x = row * height, column * width
                rows, columns = slice(max(y, top), min(y + height, bottom)), slice(max(x, left), min(x + width, right))
                for channels, index in self._indices(row, column):
                    values = self._values(index)
                    if values is not None:
                        part = values[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
                        block[
                            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left, channels
                        ] = part
        return block

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _indices(self, row: int, column: int) -> Iterator[tuple[slice, int]]:
        """Yields the channels and the number of each segment at a place in the grid."""
        within, area = row * self._grid[1] + column, math.prod(self._grid)
        if not self._is_planar:
            yield slice(None), within
            return
        for channel in range(self.shape[2]):
            yield slice(channel, channel + 1), channel * area + within

    def _values(self, index: int) -> np.ndarray | None:
        """Returns the decoded segment [h, w, C]; None if it is not stored, because it is empty."""
        if index not in self._decoded:
            self._decoded[index] = self._decode(index)
            while len(self._decoded) * self._segment_bytes > _CACHE_BYTES:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(index)
        return self._decoded[index]

    def _decode(self, index: int) -> np.ndarray | None:
        page = self._page
        with decoding_errors(self._path):
            count = page.databytecounts[index]
            self._file.filehandle.seek(page.dataoffsets[index])
            data = self._file.filehandle.read(count) if count else None
            try:
                tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
                decoded = page.decode(data, index, **tables)[0]
            except (ValueError, ImportError) as error:
                if "imagecodecs" in str(error) or isinstance(error, ImportError):
                    raise compression_error(page, self._path) from error
                raise
        return None if decoded is None else decoded[0]


def _open_npy(path: str) -> BlockReader:
    with open(path, "rb") as file:
        shape, is_fortran_order, dtype = read_npy_header(file, path)
        return _MappedArray(path, dtype, file.tell(), shape, axes_by_shape(shape), "F" if is_fortran_order else "C")


def _open_tiff(path: str) -> BlockReader:
    import tifffile

    with open(path, "rb") as opened:
        check_pages(opened, path)
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(tifffile.TiffFile(path))
        series = file.series[0]
        page: Any = series.keyframe
        axes = tiff_axes(series.axes, series.shape, path)
        tag = page.tags.get(ExifTags.Base.Orientation.value)
        problem = ""
        if tag is not None and int(tag.value) in range(2, 9):
            problem = f"has the orientation {int(tag.value)}; save it upright"
        elif series.dataoffset is None and (len(series) != 1 or page.imagedepth != 1):
            problem = "has its channels in several pages; save them as the samples of one page"
        if problem:
            raise DataError(
                f"{path}: is too large to be read whole, and cannot be read in blocks, because it {problem}"
            )
        is_palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None
        palette = (page.colormap.T >> 8).astype(np.uint8) if is_palette else None
        if series.dataoffset is not None:
            dtype = series.dtype.newbyteorder(file.byteorder)
            return _MappedArray(path, dtype, series.dataoffset, series.shape, axes, palette=palette)
        found = _SegmentedPage(path, file, page, palette)
        stack.pop_all()
    return found


def _tiff_shape(path: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    import tifffile

    with open(path, "rb") as opened:
        check_pages(opened, path)
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        return series.shape, tiff_axes(series.axes, series.shape, path)
