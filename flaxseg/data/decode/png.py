"""Decodes the common kinds of PNG files with cv2, which is faster than Pillow; all others are left to Pillow."""

import struct

import cv2
import numpy as np

from flaxseg.data.decode.limits import check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GRAY, _RGB = 0, 2
_CHUNK_OVERHEAD = 12
"""Bytes of a chunk besides its content: the length, the type and the checksum."""


def has_whole_chunks(data: bytes) -> bool:
    """Returns whether a PNG contains every byte of its chunks, up to the end.

    cv2 allocates the length that a chunk declares before it reads the chunk, up to 2 GiB in a file of 100 bytes.
    """
    position = len(SIGNATURE)
    while position + _CHUNK_OVERHEAD <= len(data):
        position += _CHUNK_OVERHEAD + int.from_bytes(data[position : position + 4], "big")
    return position == len(data)


def decode_plain_png(data: bytes, *, name: str, max_megapixels: float) -> np.ndarray | None:
    """Returns the pixels of an 8-bit gray or RGB file that has neither transparency nor an orientation.

    Returns:
      uint8[H, W] or uint8[H, W, 3] as stored; None for all other files, and for damaged ones.

    Raises:
      DataError: more than `max_megapixels`.
    """
    if len(data) < 29 or data[24] != 8 or data[25] not in (_GRAY, _RGB):
        return None
    width, height = struct.unpack_from(">II", data, 16)
    check_size(name, width, height, max_megapixels)
    if not has_whole_chunks(data):
        return None
    # These bytes may also occur by chance in the pixel data; such a file is decoded correctly by Pillow.
    if b"tRNS" in data or b"eXIf" in data or not data.endswith(b"IEND\xaeB`\x82"):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[:2] != (height, width):
        return None
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
