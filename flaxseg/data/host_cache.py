"""Decoded and resized examples kept in host memory, so that only the first epoch reads files."""

import threading
from collections.abc import Callable

import numpy as np

from flaxseg.data.batching import check_same_format
from flaxseg.data.memory import available_memory
from flaxseg.data.types import Batch, Example
from flaxseg.errors import DataError

_MAX_FRACTION = 0.8
"""The largest fraction of the available memory that the cache may need."""


class HostCache:
    """Examples of one size, each read once and then kept in memory.

    The required memory is known in advance, but only occupied as examples are read. Several threads may read at once;
    if two of them need the same example, both read it and store the same values.

    Args:
      count: the number of examples.
      read: function from an index to an example; all examples have one shape, and the same index always gives the same
        example.

    Raises:
      DataError: the examples do not fit into the available memory; the message names both sizes.
    """

    def __init__(self, count: int, read: Callable[[int], Example]) -> None:
        self._read = read
        first = read(0)
        shapes = first["image"].shape, first["label"].shape
        size = count * (first["image"].nbytes + first["label"].nbytes)
        available = available_memory()
        if size > _MAX_FRACTION * available:
            raise DataError(
                f"caching {count:,} examples of {'x'.join(map(str, shapes[0]))} in host memory needs "
                f"{size / 2**20:,.1f} MiB, and {available / 2**20:,.1f} MiB are available; turn the cache off, or use "
                "a smaller image_size"
            )
        # The operating system provides memory only when it is written to, so that an unread example takes none.
        self._images = np.empty((count, *shapes[0]), first["image"].dtype)
        self._labels = np.empty((count, *shapes[1]), np.uint8)
        self._is_cached = np.zeros(count, bool)
        self._first = first

    def batch(self, indices: np.ndarray) -> Batch:
        """Returns a batch of the examples with these indices, int[B], copied from the cache.

        Raises:
          DataError: an example cannot be read, or its number of channels differs from that of the first example.
        """
        for index in indices[~self._is_cached[indices]].tolist():
            example = self._read(index)
            check_same_format(self._first, example, "image")
            self._images[index], self._labels[index] = example["image"], example["label"]
            self._is_cached[index] = True
        return {"image": self._images[indices], "label": self._labels[indices]}


class WholeImageCache:
    """Examples of any sizes, each read once and then kept in memory; a function from an index to an example.

    Args:
      count: the number of examples.
      read: function from an index to an example; the same index always gives the same example.

    Raises:
      DataError: the examples would not fit into the available memory if all were as large as the first.
    """

    def __init__(self, count: int, read: Callable[[int], Example]) -> None:
        self._read = read
        first = read(0)
        self._examples: dict[int, Example] = {0: first}
        self._bytes = first["image"].nbytes + first["label"].nbytes
        self._lock = threading.Lock()
        self._limit = int(_MAX_FRACTION * available_memory())
        size = count * (first["image"].nbytes + first["label"].nbytes)
        if size > self._limit:
            raise self._too_large(f"caching {count:,} whole images like the first needs {size / 2**20:,.1f} MiB")

    def __call__(self, index: int) -> Example:
        """Returns an example, which the caller must not change.

        Raises:
          DataError: it cannot be read, or the examples so far fill the memory.
        """
        if index not in self._examples:
            example = self._read(index)
            with self._lock:
                self._insert(index, example)
        return self._examples[index]

    def _insert(self, index: int, example: Example) -> None:
        if index in self._examples:
            return
        total = self._bytes + example["image"].nbytes + example["label"].nbytes
        if total > self._limit:
            raise self._too_large(f"the first {len(self._examples):,} cached images fill the host memory")
        self._bytes, self._examples[index] = total, example

    def _too_large(self, problem: str) -> DataError:
        return DataError(
            f"{problem}, and {self._limit / 2**20:,.1f} MiB may be used; turn the cache off, or use a smaller scale"
        )
