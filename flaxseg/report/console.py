"""Output to the terminal that never ends a run: standard error may be a file on a disk that is full."""

import contextlib
import sys
from typing import Any

from tqdm import tqdm
from tqdm.utils import ObjectWrapper


def print_line(message: str) -> None:
    """Prints a line to standard error, above the progress bars; does nothing if that is not possible."""
    with contextlib.suppress(OSError):
        tqdm.write(message, file=sys.stderr)


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
