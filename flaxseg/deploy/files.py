"""Writing files such that none is ever half written, and every error names the file and the remedy."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from flaxseg.errors import DataError


class WriteError(DataError):
    """A file cannot be written."""


def write_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all; creates its folder.

    Raises:
      WriteError: it cannot be written.
    """
    with new_file(path) as new:
        new.write_bytes(data)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file, which replaces `path` if nothing is raised; creates its folder.

    The temporary file is beside `path`, has its extension, and never remains.

    Raises:
      WriteError: an OSError was raised inside, so that the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        os.replace(new, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> WriteError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WriteError(
            f"{path}: there is no space left to write it; free some, and repeat the command, which keeps the files "
            "that are complete"
        )
    return WriteError(f"{path}: cannot be written ({error.strerror}); give another place")


def check_new(path: Path, *, overwrite: bool) -> None:
    """Raises DataError if a file exists that must not be overwritten, or that cannot be written because it is a folder.

    Args:
      path: the file.
      overwrite: whether an existing file may be overwritten.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise DataError(f"{path}: exists; give another name, or --overwrite")
