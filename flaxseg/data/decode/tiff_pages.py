"""Checks of a TIFF before tifffile reads it, which would spend minutes and gigabytes on some damaged files."""

import struct
from typing import BinaryIO

from flaxseg.data.decode.limits import REMEDY
from flaxseg.errors import DataError

_MAX_PAGES = 4096
_MAX_TAGS = 50_000
"""Over all pages. A page has about 15, and tifffile reads 50,000 in a second."""


def check_pages(file: BinaryIO, name: str) -> None:
    """Checks that the pages of a TIFF are a plausible number, have a plausible number of tags, and end.

    Args:
      file: the file, which is positioned at its beginning afterwards.
      name: the name of the file, for messages.

    Raises:
      DataError: they do not.
      struct.error: the file is truncated.
    """
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    is_big = start[2:4] in (b"+\0", b"\0+")
    count_form, entry_bytes, offset_form = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    offset = _number(order + offset_form, start[8 if is_big else 4 :])
    tags, pages = 0, set[int]()
    while offset:
        if offset in pages:
            raise DataError(f"{name}: is a TIFF whose pages form a loop, so it is damaged; {REMEDY}")
        pages.add(offset)
        file.seek(offset)
        count = _number(order + count_form, file.read(struct.calcsize(count_form)))
        tags += count
        if len(pages) > _MAX_PAGES or tags > _MAX_TAGS:
            raise DataError(
                f"{name}: is a TIFF of more than {_MAX_PAGES:,} pages or {_MAX_TAGS:,} tags, which is damaged or not a "
                "single image; save each image as its own file"
            )
        file.seek(count * entry_bytes, 1)
        following = file.read(struct.calcsize(offset_form))
        # tifffile ignores the rest of a file that ends here, too.
        offset = _number(order + offset_form, following) if len(following) == struct.calcsize(offset_form) else 0
    file.seek(0)


def _number(form: str, data: bytes) -> int:
    return int(struct.unpack_from(form, data)[0])
