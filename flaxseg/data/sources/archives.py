"""Whether an archive keeps to the folder that it is unpacked into."""

import ntpath
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from flaxseg.errors import DataError


def check_members(archive: str) -> None:
    """Reads the names in a zip or tar file, packed or not; a file of another kind passes.

    TensorFlow Datasets writes no member outside of the folder either, but leaves it out without a word.

    Args:
      archive: its path.

    Raises:
      DataError: it has a member, or a link, that points outside of the folder it is unpacked into, or it is damaged.
    """
    try:
        for member, path in _places(archive):
            drive, rest = ntpath.splitdrive(ntpath.normpath(path))
            if drive or rest.startswith("\\") or rest.split("\\")[0] == "..":
                link = f" (a link to {path})" if path != member else ""
                raise DataError(
                    f"{archive}: its member {member}{link} points outside of the folder that it is unpacked into, "
                    "which no published archive does. Nothing was unpacked: download the archive again from its own "
                    "page, or pack it anew without that member"
                )
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{archive}: cannot be read ({error}); it is cut off or damaged: download it again") from error


def _places(archive: str) -> Iterator[tuple[str, str]]:
    """Each member's name, with its own path or the one that it links to, from the archive's folder on."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                yield entry.filename, entry.filename
                if stat.S_ISLNK(entry.external_attr >> 16):
                    target = os.fsdecode(opened.read(entry))
                    yield entry.filename, posixpath.join(posixpath.dirname(entry.filename), target)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened_tar:
            for member in opened_tar:
                yield member.name, member.name
                if member.islnk():
                    yield member.name, member.linkname
                elif member.issym():
                    yield member.name, posixpath.join(posixpath.dirname(member.name), member.linkname)
