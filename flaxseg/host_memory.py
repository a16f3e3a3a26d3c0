"""The memory of the host: how a process gets it from the kernel, and gives it back.

XLA allocates the memory of intermediate results anew at each call, and Linux hands it over page by page: a training
step that needs 500 MB takes 125,000 page faults of 4 KiB, a fifth of its time. In pages of 2 MiB it takes a thousand.
"""

import atexit
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLES = "GLIBC_TUNABLES"
"""The environment variable that sets options of the C library when a process starts."""

LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Lets the C library ask the kernel for large pages, see
https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html."""

_FIRST_VERSION = (2, 35)
_KERNEL_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_large_pages() -> None:
    """Starts the program of this process again, in the same process, with large pages where these are on request.

    Takes 20 ms at the beginning of a program, before it imports anything large. Does nothing where large pages would
    not help, and if GLIBC_TUNABLES is set, so that any value of it keeps a program from being started again.
    """
    if sys.executable and _are_on_request(os.environ):
        environment = {**os.environ, TUNABLES: LARGE_PAGES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def page_size() -> str:
    """Returns the size of the pages that the memory of this process comes in, as text."""
    mode = _kernel_mode()
    if mode == "always":
        return "large, as the kernel gives them to all programs"
    tunables = os.environ.get(TUNABLES, "")
    if mode == "madvise" and LARGE_PAGES in tunables:
        # What `restart_with_large_pages` sets.
        return (
            f"large, set by flaxseg ({TUNABLES})"
            if tunables == LARGE_PAGES
            else f"large, because of {TUNABLES}={tunables}"
        )
    return "small"


def exit_without_collection() -> None:
    """Lets this process end without a last garbage collection of millions of objects, which takes about a second.

    Functions that are registered for the exit still run.
    """
    atexit.register(gc.freeze)


def give_back() -> None:
    """Gives memory that has been freed back to the kernel, which the GNU C library otherwise keeps for later.

    To compile a training step takes one to two GB, of which no more is needed afterwards.
    """
    with contextlib.suppress(AttributeError, OSError):  # Another C library.
        ctypes.CDLL(None).malloc_trim(0)


def _are_on_request(environment: Mapping[str, str]) -> bool:
    """Returns whether a process gets large pages only if its C library asks for them, and this one's does not."""
    return TUNABLES not in environment and _kernel_mode() == "madvise" and _library_version() >= _FIRST_VERSION


def _kernel_mode() -> str:
    """Returns "always", "madvise" or "never"; "" on systems other than Linux."""
    try:
        return _KERNEL_MODE.read_text(encoding="ascii").partition("[")[2].partition("]")[0]
    except OSError:
        return ""


def _library_version() -> tuple[int, ...]:
    """Returns the version of the GNU C library, () of another."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        return ()
    return tuple(int(part) for part in version.split(".") if part.isdigit()) if name == "glibc" else ()
