"""The one way in which pictures and masks become arrays, and change their size."""

import io
import struct

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flaxseg.errors import DataError

MAX_PIXELS = 64_000_000
"""Larger pictures and masks are refused: one of them would take gigabytes along the way."""

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_RESTORE = "restore it, or take it out of the data set"
_SMALLER = "make it smaller or cut it into tiles"


def decode_image(data: bytes, *, name: str) -> np.ndarray:
    """The picture in `data`, in RGB and upright.

    What the bytes hold decides the format, not the name. Grey and palette pictures become RGB, CMYK is converted,
    transparency is dropped (not blended), of 16 bits the upper 8 are kept, and of several frames the first. A
    turning or mirroring in the EXIF data is carried out, as viewers and annotation programs do; a mask that was
    drawn over the raw, lying picture then has another size, which the readers of pairs report.

    Args:
      data: a whole file of any format that Pillow reads: JPEG, PNG, GIF, BMP, TIFF, WebP, ...
      name: what a message calls it: the file, or the key in the data set.

    Returns:
      uint8[H, W, 3].

    Raises:
      DataError: unreadable or cut-off data, more than 64 megapixels, or pixels of 32 bits.
    """
    if data.startswith(_JPEG):
        components = _check_jpeg(data, name)
        if components != 4:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if pixels is not None:
                return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    image = _open(data, name)
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise DataError(f"{name}: has pixels of 32 bits (mode {image.mode}); convert it to 8 bits a channel")
    if image.mode in ("P", "PA"):
        # Pillow warns of a palette with transparency unless it goes by way of RGBA.
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def decode_label(data: bytes, *, name: str) -> np.ndarray:
    """The mask in `data`: the values that the file stores, one a pixel.

    Grey values and palette indices are taken as they are stored (never the palette's colours; grey of 1, 2 or 4 bits
    is not spread over 0..255); an RGB mask whose three channels are equal is grey. EXIF as in `decode_image`.

    Args:
      data: a whole file.
      name: what a message calls it.

    Returns:
      uint8[H, W].

    Raises:
      DataError: as `decode_image`, and for a coloured mask or values above 255.
    """
    image = _open(data, name)
    if image.mode in ("P", "1"):
        return np.array(image, np.uint8)
    if image.mode == "L":
        # Pillow spreads a PNG's grey of 2 or 4 bits over 0..255; a label is the number that was stored.
        bits = data[24] if data.startswith(_PNG) else 8
        return np.array(image) >> (8 - bits) if bits < 8 else np.array(image)
    values = np.array(image)
    if image.mode in ("LA", "PA"):
        return np.ascontiguousarray(values[..., 0])
    if values.ndim == 3:
        if image.mode not in ("RGB", "RGBA") or (values[..., :3] != values[..., :1]).any():
            raise DataError(
                f"{name}: is a coloured picture, but a mask holds one number a pixel. A table from colours to classes "
                "is not supported yet: convert the masks to grey or palette PNG files whose values are class indices"
            )
        return np.ascontiguousarray(values[..., 0])
    if values.min() < 0 or values.max() > 255 or (values % 1).any():
        raise DataError(
            f"{name}: has mask values from {values.min()} to {values.max()}, but labels are one byte; "
            "map the classes to 0..254 and ignored pixels to 255"
        )
    return values.astype(np.uint8)


def read_palette(data: bytes, *, name: str) -> np.ndarray | None:
    """The colours of a palette file, uint8[N, 3] with N <= 256, or None if it has no palette.

    Raises:
      DataError: as `decode_image`.
    """
    image = _open(data, name, load=False)
    colours = image.getpalette("RGB") if image.mode == "P" else None
    return np.array(colours, np.uint8).reshape(-1, 3) if colours else None


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` at another size: each axis by area averaging where it shrinks, bilinear where it grows.

    Args:
      image: uint8[H, W, C].
      size: the new height and width.

    Returns:
      uint8[size[0], size[1], C]; `image` itself if it has that size.
    """
    height, width = size
    shrunk = (min(height, image.shape[0]), min(width, image.shape[1]))
    return _resample(_resample(image, shrunk, cv2.INTER_AREA), (height, width), cv2.INTER_LINEAR)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`label` at another size: each pixel takes the value found at its centre, as seen by `resize_image`.

    Args:
      label: uint8[H, W].
      size: the new height and width.

    Returns:
      uint8[size[0], size[1]]; `label` itself if it has that size.
    """
    if label.shape == tuple(size):
        return label
    rows, columns = (_centres(old, new) for old, new in zip(label.shape, size, strict=True))
    return label[rows].take(columns, axis=1)


def _resample(image: np.ndarray, size: tuple[int, int], method: int) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    # cv2 averages up to four channels at once, and drops the axis of a single one.
    groups = (image[..., first : first + 4] for first in range(0, image.shape[2], 4))
    resized = [cv2.resize(group, size[::-1], interpolation=method).reshape(*size, group.shape[2]) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def _centres(old: int, new: int) -> np.ndarray:
    """For each of `new` pixels, which of `old` pixels its centre lies in: exact, in integers."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _open(data: bytes, name: str, *, load: bool = True) -> Image.Image:
    """A decoded Pillow image, upright; every failure is a DataError that names the file."""
    if not data:
        raise DataError(f"{name}: is empty (0 bytes); {_RESTORE}")
    try:
        image = Image.open(io.BytesIO(data))
        _check_size(name, *image.size)
        if not load:
            return image
        image.load()
        return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{name}: is no picture of a known format (it begins with {data[:8]!r}); {_RESTORE}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: has more than {MAX_PIXELS / 1e6:.0f} megapixels; {_SMALLER}") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"{name}: cannot be decoded ({error}), so it is cut off or damaged; {_RESTORE}") from error


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: is {width}x{height}, {width * height / 1e6:.1f} megapixels, "
            f"and at most {MAX_PIXELS / 1e6:.0f} are read; {_SMALLER}"
        )


def _check_jpeg(data: bytes, name: str) -> int:
    """Refuses a JPEG that is too large or cut off, before cv2 turns it into a half grey picture without a word.

    Returns:
      Its number of colour components, or 4 if its segments make no sense, which leaves the message to Pillow.
    """
    components = 4
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xFF:
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and place + 10 <= len(data):
            height, width, components = struct.unpack_from(">HHB", data, place + 5)
            _check_size(name, width, height)
        place += 2 + length
        if marker == 0xDA:
            # Within the scan every 0xFF is escaped: the end marker found after it is the picture's own.
            if data.find(b"\xff\xd9", place) < 0:
                raise DataError(f"{name}: is a JPEG, cut off after {len(data)} bytes; {_RESTORE}")
            return components
    raise DataError(f"{name}: is a JPEG without picture data ({len(data)} bytes); {_RESTORE}")
