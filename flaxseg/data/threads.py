"""Reading many examples at once, in order, with a progress bar."""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import tqdm

_MOST = 16

_T = TypeVar("_T")


def thread_count(num_threads: int) -> int:
    """How many threads `data.num_threads` asks for: -1 means one for each core that may be used, up to 16."""
    if num_threads >= 0:
        return num_threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST)


def read_in_order(
    indices: Iterable[int], read: Callable[[int], _T], *, num_threads: int, description: str
) -> Iterator[_T]:
    """Yields `read(index)` of each index in turn, with a progress bar, which only a terminal shows.

    Args:
      indices: what to read.
      read: may be called by several threads at once.
      num_threads: threads that read; 0: none beside the caller's; -1: as of `thread_count`.
      description: what stands before the progress bar.
    """
    indices = list(indices)
    with contextlib.ExitStack() as stack:
        results: Iterator[_T] = map(read, indices)
        if thread_count(num_threads):
            pool = concurrent.futures.ThreadPoolExecutor(thread_count(num_threads))
            # After an error or Ctrl-C nobody waits for the rest to be read.
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(read, indices)
        yield from tqdm.tqdm(results, total=len(indices), desc=description, unit="picture", disable=None)
