"""The check that no member of an archive is unpacked outside its target folder."""

import ntpath
import os
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Self

from flaxseg.data.decode.limits import check_regular
from flaxseg.errors import DataError, reason

_MAX_PATH_BYTES = 2**16
_LONG_NAMES = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
"""Types of members that hold the name of another one, and which are read into memory, whatever their size."""


def check_members(archive: str) -> None:
    """Checks the member names in a zip or tar file, compressed or not; files of other kinds pass.

    TensorFlow Datasets does not unpack a member outside the folder either, but skips it without an error.

    Args:
      archive: the path of the file.

    Raises:
      DataError: a member, or the target of a link, lies outside the folder that the archive is unpacked into, or the
        archive is damaged.
    """
    try:
        check_regular(archive)
        for member, path in _member_paths(archive):
            drive, rest = ntpath.splitdrive(ntpath.normpath(path))
            if drive or rest.startswith("\\") or rest.split("\\")[0] == "..":
                link = f" (a link to {path})" if path != member else ""
                raise DataError(
                    f"{archive}: its member {member}{link} points outside the folder that it is unpacked into, which "
                    "no published archive does. Nothing was unpacked: download the archive again from its official "
                    "page, or pack it again without that member"
                )
    except DataError:
        raise
    # zipfile, tarfile and the decompressors raise nearly any kind for damaged files.
    except Exception as error:
        raise DataError(
            f"{archive}: cannot be read ({reason(error)}); it is truncated or damaged: download it again"
        ) from error


def _member_paths(archive: str) -> Iterator[tuple[str, str]]:
    """Yields the name of each member with its path, and with the path that it links to, relative to the folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                yield entry.filename, entry.filename
                if stat.S_ISLNK(entry.external_attr >> 16):
                    with opened.open(entry) as link:
                        # Not all of a member that only claims to be a link.
                        target = os.fsdecode(link.read(_MAX_PATH_BYTES))
                    yield entry.filename, posixpath.join(posixpath.dirname(entry.filename), target)
        return
    try:
        opened_tar = tarfile.open(archive, tarinfo=_BoundedInfo)  # noqa: SIM115
    except tarfile.TarError:
        return  # A file of another kind.
    with opened_tar:
        for member in opened_tar:
            yield member.name, member.name
            if member.islnk():
                yield member.name, member.linkname
            elif member.issym():
                yield member.name, posixpath.join(posixpath.dirname(member.name), member.linkname)


class _BoundedInfo(tarfile.TarInfo):
    """The header of a member of a tar file, which rejects names of implausible sizes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _LONG_NAMES and info.size > _MAX_PATH_BYTES:
            raise ValueError(f"a name of {info.size:,} bytes")
        return info
