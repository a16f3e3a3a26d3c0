"""PNG files of the usual kinds, decoded the fast way; what is odd about the others is left to Pillow."""

import struct

import cv2
import numpy as np

from flaxseg.data.decode.limits import check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GRAY, _RGB = 0, 2


def decode_plain_png(data: bytes, *, name: str, max_megapixels: float) -> np.ndarray | None:
    """The pixels of a gray or RGB file of 8 bits that says nothing of transparency or orientation.

    Returns:
      uint8[H, W] or uint8[H, W, 3] as stored; None for all other files, and for damaged ones.

    Raises:
      DataError: more than `max_megapixels`.
    """
    if len(data) < 29 or data[24] != 8 or data[25] not in (_GRAY, _RGB):
        return None
    width, height = struct.unpack_from(">II", data, 16)
    check_size(name, width, height, max_megapixels)
    # The bytes may also turn up within the picture data, which then is read the slow way.
    if b"tRNS" in data or b"eXIf" in data or not data.endswith(b"IEND\xaeB`\x82"):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[:2] != (height, width):
        return None
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
