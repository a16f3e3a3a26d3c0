"""How much memory a weights file may ask for, and what is said of one that is damaged."""

import contextlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from flaxseg.errors import WeightsError

MAX_BYTES = 8 * 2**30
"""The most that the tensors of a file may take, unless a caller says otherwise."""

AGAIN = "download it again, or copy it anew from where it is whole"

# Trained weights hardly compress and tensors seldom share memory: a file that unfolds to more was made to fill it.
_MOST_TIMES = 20
_ALWAYS_ALLOWED = 64 * 2**20

# UnicodeDecodeError, UnpicklingError and what numpy says of shapes are ValueErrors; RecursionError a RuntimeError.
_DAMAGE = (
    ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    Warning, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def check_size(wanted: int, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Refuses a file whose contents would take more memory than one of its size holds.

    Args:
      wanted: bytes that the contents would take.
      path: the file, whose size on disk is the measure.
      max_bytes: the most that is allowed of any file.

    Raises:
      WeightsError: it is more.
    """
    plausible = max(_ALWAYS_ALLOWED, _MOST_TIMES * path.stat().st_size)
    if wanted > plausible:
        raise WeightsError(
            f"{path}: unfolds to {wanted:,} bytes, but is itself {path.stat().st_size:,} bytes; weights of that size "
            f"take at most {plausible:,}. Nothing was loaded: have the weights from another place"
        )
    if wanted > max_bytes:
        raise WeightsError(
            f"{path}: its contents take {wanted:,} bytes, and at most {max_bytes:,} are read; save the network's "
            "weights alone, without the optimizer's state"
        )


@contextlib.contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong in reading a damaged file into one error that names it.

    Raises:
      WeightsError: the file cannot be opened, is cut off or is damaged.
    """
    try:
        yield
    except WeightsError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise WeightsError(f"{path}: cannot be opened ({error.strerror}); give a file that can be read") from error
    except _DAMAGE as error:
        # Of a missing key, the message is the key alone.
        is_said = str(error) and not isinstance(error, LookupError)
        reason = str(error) if is_said else f"{type(error).__name__} {error}".strip()
        raise WeightsError(f"{path}: cannot be read ({reason}); it is cut off or damaged: {AGAIN}") from error
