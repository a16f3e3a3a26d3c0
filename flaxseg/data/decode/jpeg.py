"""JPEG files: what their header says, checked before decoding, and decoding at a fraction of their size."""

import dataclasses
import struct

import cv2
import numpy as np
from PIL import Image

from flaxseg.data.decode.limits import RESTORE, check_size
from flaxseg.errors import DataError

SIGNATURE = b"\xff\xd8\xff"

_ORIENTATION = 0x0112
# The names of the reductions for gray: those for color also say that the order is blue, green, red.
_READ_AS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


@dataclasses.dataclass(frozen=True)
class JpegHeader:
    """What a JPEG's segments say.

    Attributes:
      size: height and width as stored, before the EXIF orientation is carried out.
      components: color components, or 4 if the segments make no sense, which leaves the message to Pillow.
      exif: the EXIF segment's content, or nothing.
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
            return exif.get(_ORIENTATION, 1)
        except Exception:  # Damaged EXIF data: viewers show such a picture as it is stored.
            return 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width as displayed."""
        return self.size[::-1] if self.orientation in (5, 6, 7, 8) else self.size


def read_header(data: bytes, *, name: str, max_megapixels: float) -> JpegHeader:
    """Refuses a JPEG that is too large or cut off, before cv2 turns it into a half gray picture without a word.

    Raises:
      DataError: more than `max_megapixels`, or no end of the picture data.
    """
    size, components, exif = (0, 0), 4, b""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack_from(">H", data, place + 2)[0]
        if marker == 0xFF:
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and place + 10 <= len(data):
            height, width, components = struct.unpack_from(">HHB", data, place + 5)
            check_size(name, width, height, max_megapixels)
            size = (height, width)
        if marker == 0xE1 and data.startswith(b"Exif\0\0", place + 4):
            exif = data[place + 4 : place + 2 + length]
        place += 2 + length
        if marker == 0xDA:
            # Within the scan every 0xFF is escaped: an end marker after its beginning is the picture's own. It is
            # looked for from the end, where it mostly is.
            if data.rfind(b"\xff\xd9", place) < 0:
                raise DataError(f"{name}: is a JPEG, cut off after {len(data)} bytes; {RESTORE}")
            return JpegHeader(size, components, exif)
    raise DataError(f"{name}: is a JPEG without picture data ({len(data)} bytes); {RESTORE}")


def decode_jpeg(
    data: bytes, header: JpegHeader, *, at_least: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """The picture, uint8[H, W, 3] and upright, and its height and width as stored; None if cv2 cannot read it.

    With `at_least` the decoder leaves out the finest frequencies: 1/8, 1/4 or 1/2 of each side is decoded, the smallest
    with neither side below `at_least` and the edges where they were.
    """
    divisor = _divisor(header, at_least) if at_least else 1
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_AS[divisor])
    except cv2.error:
        return None
    if pixels is None:
        return None
    return pixels, header.upright_size if divisor > 1 else pixels.shape[:2]


def _divisor(header: JpegHeader, at_least: tuple[int, int]) -> int:
    if min(header.size) < 2 * min(at_least):
        return 1
    sides = tuple(zip(header.upright_size, at_least, strict=True))
    return next((divisor for divisor in (8, 4, 2) if all(_fits(*side, divisor) for side in sides)), 1)


def _fits(stored: int, at_least: int, divisor: int) -> bool:
    """Whether the reduced side is long enough, and reaches past the stored one by an eighth of a pixel at most.

    The reduced side is rounded up, so that its last pixel may lie partly outside; the pixels of the eighth are those
    that `at_least` divides the side into. Labels, which are not reduced, would be off by more.
    """
    return -(-stored // divisor) >= at_least and 8 * (-stored % divisor) * at_least <= stored
