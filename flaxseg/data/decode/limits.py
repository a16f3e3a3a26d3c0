"""Checks shared by all file formats: regular files only, the size limit before decoding, one message for damage."""

import contextlib
import os
import stat
from collections.abc import Iterator

from flaxseg.errors import DataError, reason

MAX_MEGAPIXELS = 64.0
"""The default size limit: decoding a larger image or mask takes gigabytes of memory."""

REMEDY = "restore it, or leave it out"
"""What a user can do about a file that cannot be read."""


_OTHER_KINDS = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_regular(path: str) -> None:
    """Checks that a path, or the target of a link, is a regular file; to be called before the file is opened.

    Opening a pipe waits for another program, and a device such as /dev/zero has no end.

    Raises:
      DataError: it is something else.
      OSError: nothing is there, or it cannot be accessed.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        link = f" (a link to {os.path.realpath(path)})" if os.path.islink(path) else ""
        raise DataError(f"{path}{link}: is {_OTHER_KINDS.get(kind, 'not a file')}, but only files are read; {REMEDY}")


def check_size(name: str, width: int, height: int, max_megapixels: float) -> None:
    """Checks the size that an image's header declares.

    Raises:
      DataError: the image has no pixels, or more than `max_megapixels`.
    """
    if width < 1 or height < 1:
        raise DataError(f"{name}: is {width}x{height}, so it contains no pixels; {REMEDY}")
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise too_large_error(name, f"{width}x{height}, {megapixels:.1f}", max_megapixels)


def too_large_error(name: str, size: str, max_megapixels: float) -> DataError:
    """Returns the error about an image of `size` megapixels."""
    return DataError(
        f"{name}: is {size} megapixels, but at most {max_megapixels:g} are read; make it smaller, cut it into tiles, "
        "or raise max_megapixels"
    )


@contextlib.contextmanager
def decoding_errors(name: str) -> Iterator[None]:
    """Turns every exception raised inside into a DataError that names the file; decoders raise nearly any kind."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{name}: cannot be decoded ({reason(error)}), so it is truncated or damaged; {REMEDY}"
        ) from error
