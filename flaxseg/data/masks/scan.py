"""Which values occur in a folder of mask files, read once and remembered for as long as the files stay."""

import contextlib
import hashlib
import os
from collections.abc import Sequence

import numpy as np

from flaxseg.data.decode.images import decode_label
from flaxseg.data.sources.files import read_file
from flaxseg.data.threads import read_in_order
from flaxseg.errors import DataError

_remembered: dict[bytes, frozenset[int]] = {}
"""The values by a digest of the files' names, sizes and times: one dataset, as its splits are opened in turn."""


def values_in(masks: Sequence[str], *, max_megapixels: float) -> frozenset[int]:
    """Every value that occurs in these mask files. A second call reads none of them if all are as they were.

    Raises:
      DataError: none of them can be read; with the reason for the first. Where it is some of them, reading the
        examples tells which, and may pass over them.
    """
    digest = hashlib.blake2b()
    for path in sorted(masks):
        with contextlib.suppress(OSError):
            state = os.stat(path)
            path = f"{path}\0{state.st_size}\0{state.st_mtime_ns}"
        digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
    key = digest.digest()
    if key not in _remembered:
        found = _scanned(masks, max_megapixels)
        _remembered.clear()
        _remembered[key] = found
    return _remembered[key]


def _scanned(masks: Sequence[str], max_megapixels: float) -> frozenset[int]:
    def occurring(index: int) -> np.ndarray | DataError:
        path = masks[index]
        try:
            mask = decode_label(read_file(path), name=path, max_megapixels=max_megapixels)
        except DataError as error:
            return error
        return np.bincount(mask.ravel(), minlength=256) > 0

    found, errors = np.zeros(256, bool), []
    for result in read_in_order(range(len(masks)), occurring, num_threads=-1, description="mask values"):
        if isinstance(result, DataError):
            errors.append(result)
        else:
            found |= result
    if errors and len(errors) == len(masks):
        raise errors[0]
    return frozenset(np.flatnonzero(found).tolist())
