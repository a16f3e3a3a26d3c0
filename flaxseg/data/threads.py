"""Reads many items with several threads, in order."""

import concurrent.futures
import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import tqdm

_MAX_THREADS = 16

_S = TypeVar("_S")
_T = TypeVar("_T")


def thread_count(num_threads: int) -> int:
    """Returns `num_threads`, or for -1 the number of CPU cores available to this process, at most 16."""
    if num_threads >= 0:
        return num_threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_THREADS)


def read_ahead(items: Iterable[_S], read: Callable[[_S], _T], *, num_threads: int) -> Iterator[_T]:
    """Yields `read(item)` for each item, in order; threads prefetch at most two items each.

    Args:
      items: the items to read.
      read: function that several threads may call at once.
      num_threads: the number of threads that read; 0 reads in the calling thread, -1 uses one thread per core.
    """
    threads = thread_count(num_threads)
    if not threads:
        yield from map(read, items)
        return
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        reading: deque[concurrent.futures.Future[_T]] = deque()
        for item in items:
            reading.append(pool.submit(read, item))
            if len(reading) > 2 * threads:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()
    finally:
        # After an error or Ctrl-C, do not wait for the remaining reads.
        pool.shutdown(cancel_futures=True)


def read_in_order(
    indices: Iterable[int], read: Callable[[int], _T], *, num_threads: int, description: str
) -> Iterator[_T]:
    """Yields `read(index)` for each index, in order, with a progress bar if stderr is a terminal.

    Args:
      indices: the indices to read.
      read: function that several threads may call at once.
      num_threads: the number of threads that read; 0 reads in the calling thread, -1 uses one thread per core.
      description: the text in front of the progress bar.
    """
    indices = list(indices)
    with contextlib.ExitStack() as stack:
        results: Iterator[_T] = map(read, indices)
        if thread_count(num_threads):
            pool = concurrent.futures.ThreadPoolExecutor(thread_count(num_threads))
            # After an error or Ctrl-C, do not wait for the remaining reads.
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(read, indices)
        yield from tqdm.tqdm(results, total=len(indices), desc=description, unit="image", disable=None)
