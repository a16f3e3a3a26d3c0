"""What holds for files of every format: none is decoded that is too large, and damage is told in one way."""

import contextlib
from collections.abc import Iterator

from flaxseg.errors import DataError

MAX_MEGAPIXELS = 64.0
"""Larger pictures and masks are refused unless asked for: one of them takes gigabytes along the way."""

RESTORE = "restore it, or take it out of the dataset"
"""What a user does about a file that cannot be read."""


def check_size(name: str, width: int, height: int, max_megapixels: float) -> None:
    """Refuses a picture for the size that its header gives.

    Raises:
      DataError: no pixels, or more than `max_megapixels`.
    """
    if width < 1 or height < 1:
        raise DataError(f"{name}: is {width}x{height}, so it holds no pixels; {RESTORE}")
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise too_large(name, f"{width}x{height}, {megapixels:.1f}", max_megapixels)


def too_large(name: str, found: str, max_megapixels: float) -> DataError:
    """Returns the error about a picture of `found` megapixels."""
    return DataError(
        f"{name}: is {found} megapixels, and at most {max_megapixels:g} are read; make it smaller, cut it into tiles, "
        "or raise data.options.max_megapixels (of the dataset folder)"
    )


@contextlib.contextmanager
def named_damage(name: str) -> Iterator[None]:
    """Every exception from within becomes a DataError that names the file; decoders raise nearly any kind."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name}: cannot be decoded ({error}), so it is cut off or damaged; {RESTORE}") from error
