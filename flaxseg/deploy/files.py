"""Writing files such that none is ever half written, and every error names the file and the remedy."""

import contextlib
import errno
import os
import uuid
from pathlib import Path

from flaxseg.errors import DataError


def write_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all; creates its folder.

    Raises:
      DataError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        os.replace(new, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{path}: there is no space left to write it; free some, and repeat the command, which keeps the files "
                "that are complete"
            ) from error
        raise DataError(f"{path}: cannot be written ({error.strerror}); give another place") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


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
