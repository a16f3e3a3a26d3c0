"""Decoded pictures and labels kept in memory, so that an epoch after the first reads no file."""

import os
from collections.abc import Callable

import numpy as np

from flaxseg.data.types import Batch, Example, check_alike
from flaxseg.errors import DataError


class CanvasCache:
    """Examples of one size, each read once and kept.

    Memory is taken as examples come in, and is known before: an example costs what its arrays hold. Several threads
    may read at once; two that meet at one example both read it, and keep the same.

    Args:
      count: how many examples there are.
      read: index -> example, all of one shape, the same each time.

    Raises:
      DataError: all of them would not fit into the memory that is free now (both figures).
    """

    def __init__(self, count: int, read: Callable[[int], Example]) -> None:
        self._read = read
        first = read(0)
        shapes = first["image"].shape, first["label"].shape
        size = count * (first["image"].nbytes + first["label"].nbytes)
        free, size_text = free_memory(), "x".join(map(str, shapes[0]))
        if size > 0.8 * free:
            raise DataError(
                f"data.cache = 'host': {count:,} examples of {size_text} need {size / 2**20:,.1f} MiB, "
                f"and {free / 2**20:,.1f} MiB of memory are free; use data.cache = 'none', or a smaller data.image_size"
            )
        # Not touched until written, so that the system gives memory only for what was read.
        self._images = np.empty((count, *shapes[0]), first["image"].dtype)
        self._labels = np.empty((count, *shapes[1]), np.uint8)
        self._is_there = np.zeros(count, bool)
        self._first = first

    def batch(self, indices: np.ndarray) -> Batch:
        """Returns a batch of these examples, copied from the cache.

        Raises:
          DataError: one cannot be read, or differs from the first in its channels; names both.
        """
        for index in indices[~self._is_there[indices]].tolist():
            example = self._read(index)
            check_alike(self._first, example, "image")
            self._images[index], self._labels[index] = example["image"], example["label"]
            self._is_there[index] = True
        return {"image": self._images[indices], "label": self._labels[indices]}


def free_memory() -> int:
    """Returns the bytes of memory that can still be taken, as the system tells them."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            # What the system holds for files gives way, so "free" alone would be far too little.
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
