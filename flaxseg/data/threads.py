"""Reading many examples with several threads, in order, with a progress bar."""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import tqdm

_MAX_THREADS = 16

_T = TypeVar("_T")


def thread_count(num_threads: int) -> int:
    """Returns `num_threads`, or for -1 the number of CPU cores available to this process, at most 16."""
    if num_threads >= 0:
        return num_threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_THREADS)


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
