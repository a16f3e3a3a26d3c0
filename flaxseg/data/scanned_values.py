"""Which values occur in a folder of mask files, read once and remembered for as long as the files stay."""

import concurrent.futures
import hashlib
import os
from collections.abc import Sequence

import numpy as np
import tqdm

from flaxseg.data.decode import jpeg
from flaxseg.data.decode.images import decode_label
from flaxseg.data.files import read_file
from flaxseg.errors import DataError

_remembered: dict[bytes, frozenset[int]] = {}
"""The values by a digest of the files' names, sizes and times: one data set, as its splits are opened in turn."""


def values_in(masks: Sequence[str], *, max_megapixels: float) -> frozenset[int]:
    """Every value that occurs in these mask files. A second call reads none of them if all are as they were.

    Raises:
      DataError: an unreadable mask, or a JPEG, whose values are not exact.
    """
    digest = hashlib.blake2b()
    for path in sorted(masks):
        state = os.stat(path)
        digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    key = digest.digest()
    if key not in _remembered:
        found = _scanned(masks, max_megapixels)
        _remembered.clear()
        _remembered[key] = found
    return _remembered[key]


def _scanned(masks: Sequence[str], max_megapixels: float) -> frozenset[int]:
    found = np.zeros(256, bool)

    def occurring(path: str) -> np.ndarray:
        return _occurring(path, max_megapixels)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Without a terminal there is no bar.
        for present in tqdm.tqdm(pool.map(occurring, masks), total=len(masks), desc="mask values", disable=None):
            found |= present
    return frozenset(np.flatnonzero(found).tolist())


def _occurring(path: str, max_megapixels: float) -> np.ndarray:
    """bool[256]: the values in one mask file."""
    data = read_file(path)
    if data.startswith(jpeg.SIGNATURE):
        raise DataError(
            f"{path}: is a JPEG, which does not keep exact values, so that the classes cannot be read off the masks; "
            "save the masks as PNG, or name the classes' values in data.options.values"
        )
    return np.bincount(decode_label(data, name=path, max_megapixels=max_megapixels).ravel(), minlength=256) > 0
