"""Reads members of zip files with a bound on the memory that they take."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.limits import DOWNLOAD_AGAIN, check_size

MAGIC = b"PK\x03\x04"

_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that zipfile unpacks in bounded pieces; it unpacks others whole, regardless of their size."""


@contextlib.contextmanager
def open_zip(path: Path, *, max_bytes: int) -> Iterator[zipfile.ZipFile]:
    """Opens a zip file whose members together have a plausible size; nothing is unpacked to disk.

    Args:
      path: path of the file.
      max_bytes: limit on the size of all members together.

    Raises:
      WeightsError: the members take more, or one is encrypted or compressed by another method.
      zipfile.BadZipFile: the directory at the file's end is missing or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_size(sum(member.file_size for member in members), path, max_bytes=max_bytes)
        for member in members:
            if member.compress_type not in _BOUNDED or member.flag_bits & 1:
                raise WeightsError(
                    f"{path}: its member {member.filename!r} is encrypted or compressed by method "
                    f"{member.compress_type}; only stored and deflated members are supported: save the weights again"
                )
        yield archive


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Returns the contents of one member, whose checksum is verified.

    Args:
      archive: the zip file, from `open_zip`.
      name: name of the member.
      path: path of the zip file, for messages.

    Raises:
      WeightsError: there is no such member, or it is shorter than the directory says.
      zipfile.BadZipFile: its checksum differs.
    """
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise WeightsError(f"{path}: has no member {name!r}; it is truncated or damaged: {DOWNLOAD_AGAIN}") from None
    with archive.open(name) as member:
        # With a size, because zipfile would otherwise unpack gigabytes of a member that lies about its size.
        data = member.read(size)
    if len(data) != size:
        raise WeightsError(f"{path}: its member {name!r} has {len(data):,} bytes instead of {size:,}: {DOWNLOAD_AGAIN}")
    return data
