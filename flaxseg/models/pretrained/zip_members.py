"""Members of a zip file, never more of them in memory than the file can plausibly hold."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.limits import AGAIN, check_size

MAGIC = b"PK\x03\x04"

_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that zipfile unpacks in bounded pieces; others it unpacks whole, whatever the size."""


@contextlib.contextmanager
def open_zip(path: Path, *, max_bytes: int) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members together are of a plausible size; nothing is ever unpacked to disk.

    Args:
      path: of the file.
      max_bytes: the most that its members may take together.

    Raises:
      WeightsError: they take more, or one is packed or encrypted in a way that is not read.
      zipfile.BadZipFile: the directory at the file's end is missing or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_size(sum(member.file_size for member in members), path, max_bytes=max_bytes)
        for member in members:
            if member.compress_type not in _BOUNDED or member.flag_bits & 1:
                raise WeightsError(
                    f"{path}: its member {member.filename!r} is encrypted or packed by method {member.compress_type}; "
                    "only members stored as they are or deflated are read: save the weights again"
                )
        yield archive


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Contents of one member, with its checksum checked.

    Args:
      archive: from `open_zip`.
      name: of the member.
      path: of the zip file, for messages.

    Raises:
      WeightsError: there is no such member, or it is shorter than the directory says.
      zipfile.BadZipFile: its checksum is another.
    """
    try:
        size = archive.getinfo(name).file_size
    except KeyError:
        raise WeightsError(f"{path}: has no member {name!r}; it is cut off or damaged: {AGAIN}") from None
    with archive.open(name) as member:
        # By its size: without one, zipfile would unpack gigabytes of a member that lies about it.
        data = member.read(size)
    if len(data) != size:
        raise WeightsError(f"{path}: its member {name!r} has {len(data):,} bytes instead of {size:,}: {AGAIN}")
    return data
