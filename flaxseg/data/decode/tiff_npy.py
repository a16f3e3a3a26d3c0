"""Reads TIFF and NPY files, which contain arrays with any number of channels and any bit depth."""

import dataclasses
import io
import math
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image

from flaxseg.data.decode.limits import check_size, decoding_errors
from flaxseg.data.decode.tiff_pages import check_pages
from flaxseg.errors import DataError

_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STACKS = {"I": "pages", "Z": "slices", "T": "time points"}
"""Axes of a TIFF along which it holds several images, as opposed to several channels of one."""

_PIXEL_BYTES, _MAX_EXPANSION = 16, 20
"""Images of four channels of float32 may be compressed by any factor, and those of more bytes per pixel by this one."""

_PHOTOMETRIC_PALETTE = 3
_UNCONVERTED_PHOTOMETRICS = (1, 2, 3, 6)
"""Photometric interpretations whose values Pillow returns as stored: gray, RGB, palette, YCbCr."""


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """The content of a TIFF or NPY file.

    Attributes:
      pixels: [H, W, C], upright, of the stored dtype.
      palette: uint8[N, 3], the color of each value in a palette file, or None.
    """

    pixels: np.ndarray
    palette: np.ndarray | None = None


def is_array_file(data: bytes) -> bool:
    """Returns whether `data` begins like a TIFF or NPY file."""
    return data.startswith((_NPY, *_TIFF))


def read_array(data: bytes, *, name: str, max_megapixels: float) -> StoredArray:
    """Returns the image in a TIFF or NPY file, with the channels and the dtype that are stored.

    Of a TIFF, the first series is read at full resolution. Its axes name the rows and columns; the one other axis, if
    any, holds the channels, including transparency. Pages, slices (Z) and time points are several images and are
    rejected. An NPY file, or a TIFF that does not name its axes, has the shape [H, W], [H, W, C], or [C, H, W] where C
    is smaller than H and W.

    Args:
      data: a whole file.
      name: the name of the file, for messages.
      max_megapixels: images of more million pixels are rejected before they are decoded.

    Raises:
      DataError: a damaged or too large file, axes of more than one image, an NPY file of Python objects (which are
        never loaded, because that could run code), or a compression that requires the extra `tiff`.
    """
    with decoding_errors(name):
        if data.startswith(_NPY):
            return StoredArray(_read_npy(data, name, max_megapixels))
        return _read_tiff(data, name, max_megapixels)


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns `pixels` [H, W, ...] rotated and mirrored as an EXIF or TIFF orientation 1..8 requests.

    Other orientations change nothing.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def palette_colors(values: np.ndarray, palette: np.ndarray, *, name: str) -> np.ndarray:
    """Returns the colors uint8[H, W, 3] of the values [H, W, 1] of a palette file.

    Args:
      values: the values, each of which is the index of a color.
      palette: uint8[N, 3].
      name: the name of the file, for messages.

    Raises:
      DataError: a value has no color.
    """
    with decoding_errors(name):
        # Values of one bit are bools, which would select colors instead of naming them.
        return palette[values[..., 0].astype(np.int64, casting="safe")]


def read_npy_header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns the shape of the array in an NPY file, whether it is stored in Fortran order, and its dtype.

    Args:
      file: a file that is read from its beginning up to the first value.
      name: the name of the file, for messages.

    Raises:
      DataError: an array of Python objects, or one that is not an image.
    """
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, is_fortran_order, dtype = read_header(file)
    if dtype.hasobject:
        raise DataError(
            f"{name}: contains pickled Python objects, which are never loaded because that can run code; save an array "
            "of numbers: numpy.save(path, array, allow_pickle=False)"
        )
    if len(shape) not in (2, 3) or 0 in shape:
        raise DataError(f"{name}: has the shape {list(shape)}, but an image is [H, W], [H, W, C] or [C, H, W]")
    return shape, is_fortran_order, dtype


def _read_npy(data: bytes, name: str, max_megapixels: float) -> np.ndarray:
    file = io.BytesIO(data)
    shape, is_fortran_order, dtype = read_npy_header(file, name)
    axes = axes_by_shape(shape)
    check_size(name, shape[axes[1]], shape[axes[0]], max_megapixels)
    # Unlike numpy.load, this allocates no memory for a shape that is larger than the file.
    values = np.frombuffer(data, dtype, math.prod(shape), file.tell()).astype(dtype.newbyteorder("="))
    return channels_last(values.reshape(shape, order="F" if is_fortran_order else "C"), axes)


def _read_tiff(data: bytes, name: str, max_megapixels: float) -> StoredArray:
    import tifffile

    stream = io.BytesIO(data)
    check_pages(stream, name)
    with tifffile.TiffFile(stream) as file:
        series: Any = file.series[0]
        page: Any = series.keyframe
        axes = tiff_axes(series.axes, series.shape, name)
        check_size(name, series.shape[axes[1]], series.shape[axes[0]], max_megapixels)
        _check_bytes(series, len(data), name, max_megapixels)
        tag = page.tags.get(ExifTags.Base.Orientation.value)
        values = channels_last(_tiff_values(series, data, name), axes)
        pixels = apply_orientation(values, int(tag.value) if tag else 1)
        if page.photometric != _PHOTOMETRIC_PALETTE or page.colormap is None:
            return StoredArray(pixels)
        return StoredArray(pixels, (page.colormap.T >> 8).astype(np.uint8))


def _check_bytes(series: Any, file_bytes: int, name: str, max_megapixels: float) -> None:
    """Checks that the channels of a TIFF take a plausible amount of memory; compressed, they may take any."""
    wanted = math.prod(series.shape) * series.dtype.itemsize
    allowed = max(_PIXEL_BYTES * max_megapixels * 1e6, _MAX_EXPANSION * file_bytes)
    if wanted > allowed:
        raise DataError(
            f"{name}: unpacks to {wanted:,} bytes ({list(series.shape)} of {series.dtype}), but is itself "
            f"{file_bytes:,} bytes; a file of that size may unpack to {allowed:,.0f}. Save it uncompressed, or raise "
            "max_megapixels"
        )


def tiff_axes(axes: str, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Returns the positions of the rows, the columns and, if there is one, the channel axis of a TIFF.

    Args:
      axes: the names that tifffile gives the axes, such as "YXS".
      shape: the lengths of the axes.
      name: the name of the file, for messages.

    Raises:
      DataError: the TIFF holds several images.
    """
    others = axes.replace("Y", "", 1).replace("X", "", 1)
    problem = ""
    if len(axes) - len(others) != 2 or len(others) > 1:
        problem = "which is not a single image"
    elif others in _STACKS:
        problem = f"which is a stack of {shape[axes.index(others)]} {_STACKS[others]}"
    if problem:
        raise DataError(
            f"{name}: is a TIFF with the axes {axes} of sizes {list(shape)}, {problem}; only rows (Y), columns (X) and "
            "one axis of channels (C or S) can be read. Save each image as its own file, or channels with "
            "tifffile.imwrite(path, array, metadata={'axes': 'CYX'})"
        )
    # Without metadata, tifffile calls the last two axes rows and columns, even if they are not.
    return axes_by_shape(shape) if others == "Q" else tuple(axes.index(axis) for axis in "YX" + others)


def axes_by_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the positions of the rows, the columns and, if there are any, the channels of an array."""
    if len(shape) == 2:
        return (0, 1)
    return (1, 2, 0) if shape[0] < min(shape[1:]) else (0, 1, 2)


def channels_last(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Returns an array as [H, W, C], given the positions of its rows, its columns and, if any, its channels."""
    return values.transpose(axes) if len(axes) == 3 else values.transpose(axes)[..., None]


def _tiff_values(series: Any, data: bytes, name: str) -> np.ndarray:
    try:
        return series.asarray(maxworkers=1)
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
    # Without imagecodecs, Pillow still reads the most common of the files that need it: 8-bit LZW and JPEG.
    if series.keyframe.photometric in _UNCONVERTED_PHOTOMETRICS:
        try:
            values = np.array(Image.open(io.BytesIO(data)))
        except Image.UnidentifiedImageError:
            values = np.empty(0)
        if values.shape == series.shape and values.dtype.str[1:] == series.dtype.str[1:]:
            return values
    raise compression_error(series.keyframe, name)


def compression_error(page: Any, name: str) -> DataError:
    """Returns the error about a page of a TIFF whose compression needs the extra `tiff`."""
    return DataError(
        f"{name}: is a TIFF of {page.dtype} with the compression {page.compression.name}, which requires another "
        "package: pip install 'flaxseg[tiff]', or save it uncompressed or with deflate"
    )
