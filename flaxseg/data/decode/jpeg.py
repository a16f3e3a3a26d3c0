"""JPEG files: a header check before decoding, and decoding at a fraction of the stored size."""

import dataclasses
import struct

import cv2
import numpy as np
from PIL import ExifTags, Image

from flaxseg.data.decode.limits import REMEDY, check_size
from flaxseg.errors import DataError

SIGNATURE = b"\xff\xd8\xff"

# The reduced modes named after color also ask for the channel order blue, green, red; those named after gray do not.
_READ_MODES = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


@dataclasses.dataclass(frozen=True)
class JpegHeader:
    """The header of a JPEG.

    Attributes:
      size: height and width as stored, before the EXIF orientation is applied.
      components: the number of color components; also 4 if the header is invalid, so that Pillow reports the error.
      exif: the content of the EXIF segment, or b"".
    """

    size: tuple[int, int]
    components: int
    exif: bytes

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1..8; 1 is upright."""
        exif = Image.Exif()
        try:
            exif.load(self.exif)
            return exif.get(ExifTags.Base.Orientation, 1)
        except Exception:  # Viewers show an image with damaged EXIF data as stored.
            return 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width as displayed."""
        return self.size[::-1] if self.orientation in (5, 6, 7, 8) else self.size


def read_header(data: bytes, *, name: str, max_megapixels: float) -> JpegHeader:
    """Returns the header of a JPEG, and rejects files that cv2 would decode to a partly gray image without an error.

    The segments are parsed here because Pillow does not reveal where the compressed pixels begin, which is needed to
    find the end marker of the file.

    Raises:
      DataError: more than `max_megapixels`, or no end of the pixel data.
    """
    size, components, exif = (0, 0), 4, b""
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker, length = data[offset + 1], struct.unpack_from(">H", data, offset + 2)[0]
        if marker == 0xFF:
            offset += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and offset + 10 <= len(data):
            height, width, components = struct.unpack_from(">HHB", data, offset + 5)
            check_size(name, width, height, max_megapixels)
            size = (height, width)
        if marker == 0xE1 and data.startswith(b"Exif\0\0", offset + 4):
            exif = data[offset + 4 : offset + 2 + length]
        offset += 2 + length
        if marker == 0xDA:
            # Every 0xFF in the compressed pixels is escaped, so an end marker after their beginning belongs to the
            # image itself and not to a thumbnail. The search starts at the end, where the marker usually is.
            if data.rfind(b"\xff\xd9", offset) < 0:
                raise DataError(f"{name}: is a JPEG, truncated after {len(data)} bytes; {REMEDY}")
            return JpegHeader(size, components, exif)
    raise DataError(f"{name}: is a JPEG without pixel data ({len(data)} bytes); {REMEDY}")


def decode_jpeg(
    data: bytes, header: JpegHeader, *, min_size: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Returns the image and the height and width at which it is stored, or None if cv2 cannot decode it.

    With `min_size`, the decoder omits the highest frequencies and returns 1/8, 1/4 or 1/2 of each side: the smallest
    of these with neither side below `min_size` and with the edges in place.

    Args:
      data: a whole file.
      header: its header.
      min_size: the height and width that the reduced image must not fall below; None for no reduction.

    Returns:
      uint8[H, W, 3], upright, and its height and width as stored, upright as well.
    """
    divisor = _divisor(header, min_size) if min_size else 1
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_MODES[divisor])
    except cv2.error:
        return None
    if pixels is None:
        return None
    return pixels, header.upright_size if divisor > 1 else pixels.shape[:2]


def _divisor(header: JpegHeader, min_size: tuple[int, int]) -> int:
    if min(header.size) < 2 * min(min_size):
        return 1
    sides = tuple(zip(header.upright_size, min_size, strict=True))
    return next((divisor for divisor in (8, 4, 2) if all(_is_aligned(*side, divisor) for side in sides)), 1)


def _is_aligned(stored: int, minimum: int, divisor: int) -> bool:
    """Returns whether a reduced side is at least `minimum` and its edges stay in place.

    A reduced side is rounded up, so its last pixel may lie partly outside the image. At most an eighth of a pixel is
    allowed, where the side is divided into `minimum` pixels; otherwise labels, which are not reduced, would be
    misaligned.
    """
    return -(-stored // divisor) >= minimum and 8 * (-stored % divisor) * minimum <= stored
