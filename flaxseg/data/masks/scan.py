"""The values that occur in a folder of mask files, read once and reused as long as the files do not change."""

import contextlib
import hashlib
import os
from collections.abc import Sequence

import numpy as np

from flaxseg.data.decode.images import decode_label
from flaxseg.data.sources.files import read_file
from flaxseg.data.threads import read_in_order
from flaxseg.errors import DataError

_cache: dict[bytes, frozenset[int]] = {}
"""The values of the last scan, by a digest of the files' names, sizes and times: the splits of one dataset share it."""


def find_mask_values(masks: Sequence[str], *, max_megapixels: float) -> frozenset[int]:
    """Returns every value that occurs in these mask files. Calling it again for unchanged files reads none of them.

    Args:
      masks: the paths of the files.
      max_megapixels: masks of more million pixels are rejected.

    Raises:
      DataError: none of the files can be read; the error is that of the first one. If only some of them cannot be
        read, reading the examples reports them, and may skip them.
    """
    digest = hashlib.blake2b()
    for path in sorted(masks):
        with contextlib.suppress(OSError):
            state = os.stat(path)
            path = f"{path}\0{state.st_size}\0{state.st_mtime_ns}"
        digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
    key = digest.digest()
    if key not in _cache:
        found = _scan(masks, max_megapixels)
        _cache.clear()
        _cache[key] = found
    return _cache[key]


def _scan(masks: Sequence[str], max_megapixels: float) -> frozenset[int]:
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
