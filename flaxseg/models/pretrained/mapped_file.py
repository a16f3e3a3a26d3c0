"""Arrays in a file that the operating system reads when they are used, and forgets once they have been copied."""

import mmap
from pathlib import Path

import numpy as np

_ALIGNMENT = 64
_COLUMNS = 32


def map_file(path: Path) -> mmap.mmap:
    """Returns the contents of a file, which are not read yet. `np.frombuffer` makes arrays of them.

    The file must not be truncated while these are in use.

    Args:
      path: path of a file that is not empty.

    Raises:
      OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def in_memory(array: np.ndarray) -> np.ndarray:
    """Returns the values of an array as float32 in C order, in memory of its own.

    If the array is a view of a mapped file, the pages of the file that have been read are given back to the operating
    system, so that a file and the copies of its arrays are never in memory at once.

    Args:
      array: numbers of any type, in any order of the axes.

    Returns:
      float32 of the same shape; the array itself if it is that already.
    """
    file = _mapped_file(array)
    if file is None and array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    copy = aligned(array.shape)
    if array.ndim == 2 and array.flags.f_contiguous:
        # In whole rows, a transposed matrix would be read one number per cache line.
        for first in range(0, array.shape[1], _COLUMNS):
            copy[:, first : first + _COLUMNS] = array[:, first : first + _COLUMNS]
    else:
        copy[...] = array
    if file is not None and hasattr(file, "madvise"):
        file.madvise(mmap.MADV_DONTNEED)
    return copy


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns uninitialized float32, aligned such that `jax.device_put` does not copy it on the CPU.

    Args:
      shape: the shape of the array.
    """
    size = 4 * int(np.prod(shape, dtype=np.int64))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def _mapped_file(array: np.ndarray) -> mmap.mmap | None:
    """Returns the file that an array is a view of; None if it is in memory."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) else None
