"""Limits on the memory that a weights file may take, and the error for a damaged file."""

import contextlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from flaxseg.errors import WeightsError, reason

MAX_BYTES = 8 * 2**30
"""The default limit on the size of a file's tensors."""

DOWNLOAD_AGAIN = "download it again, or copy it again from an undamaged original"

# Trained weights hardly compress and tensors seldom share memory: a file that unpacks to more was made to exhaust it.
_MAX_EXPANSION = 20
_ALWAYS_ALLOWED = 64 * 2**20

# UnicodeDecodeError, UnpicklingError and numpy's errors about shapes are ValueErrors; RecursionError is a RuntimeError.
_DAMAGE = (
    ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    Warning, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def check_size(wanted: int, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Checks that a file's contents take a plausible amount of memory for the file's size.

    Args:
      wanted: bytes that the contents take.
      path: path of the file.
      max_bytes: the limit for a file of any size.

    Raises:
      WeightsError: the contents take more.
    """
    plausible = max(_ALWAYS_ALLOWED, _MAX_EXPANSION * path.stat().st_size)
    if wanted > plausible:
        raise WeightsError(
            f"{path}: unpacks to {wanted:,} bytes, but is itself {path.stat().st_size:,} bytes; a file of that size "
            f"may unpack to at most {plausible:,}. Nothing was loaded: get the weights from another source"
        )
    if wanted > max_bytes:
        raise WeightsError(
            f"{path}: its contents take {wanted:,} bytes, and at most {max_bytes:,} are allowed; save the network's "
            "weights alone, without the optimizer's state"
        )


@contextlib.contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turns any error in reading a damaged file into one error that names the file.

    Raises:
      WeightsError: the file cannot be opened, is truncated or is damaged.
    """
    try:
        yield
    except WeightsError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise WeightsError(f"{path}: cannot be opened ({error.strerror}); give a file that can be read") from error
    except _DAMAGE as error:
        # The message of a KeyError is the key alone.
        prefix = f"{type(error).__name__} " if str(error) and isinstance(error, LookupError) else ""
        raise WeightsError(
            f"{path}: cannot be read ({prefix}{reason(error)}); it is truncated or damaged: {DOWNLOAD_AGAIN}"
        ) from error
