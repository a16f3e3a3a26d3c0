"""Output to the terminal that never ends a run: standard error may be a file on a disk that is full."""

import contextlib
import sys
from typing import Any

from tqdm import tqdm
from tqdm.utils import ObjectWrapper


def print_line(message: str, file: Any = None) -> None:
    """Prints a line above the progress bars; does nothing if that is not possible.

    Args:
      message: the line.
      file: that of the bars; None for standard error.
    """
    with contextlib.suppress(OSError):
        # tqdm compares what the files of its bars wrap with what this one wraps, and clears those bars before.
        tqdm.write(message, file=ObjectWrapper(file or standard_error()))


def standard_error() -> Any:
    """Returns standard error for a progress bar; what cannot be written to it is dropped."""
    return _Forgiving(sys.stderr)


class _Forgiving(ObjectWrapper):
    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._wrapped.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._wrapped.flush()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Forgiving) and self._wrapped is other._wrapped

    def __hash__(self) -> int:
        return hash(self._wrapped)
