"""The cache of compiled programs that the commands share, so that a command compiles only what none has before."""

import hashlib
import os
import platform
from pathlib import Path

MAX_BYTES = 4 * 2**30
"""The size of the cache; the programs that have not been used for the longest time are deleted first."""

_MIN_COMPILE_SECONDS = 0.02
"""Reading a small program from the cache takes about 8 ms."""


def enable() -> None:
    """Keeps compiled programs below `~/.cache/flaxseg`, unless JAX has been told where to keep them, or not to.

    `JAX_COMPILATION_CACHE_DIR` names another directory, `JAX_ENABLE_COMPILATION_CACHE=false` turns the cache off, and
    `XDG_CACHE_HOME` replaces `~/.cache`. Without a directory that can be written to, there is no cache.
    """
    import jax

    values = jax.config.values
    if values["jax_compilation_cache_dir"] is not None or not values["jax_enable_compilation_cache"]:
        return
    directory = _directory()
    if directory is None:
        return
    for name, value in (
        ("jax_compilation_cache_dir", str(directory)),
        # With a limit, JAX locks the cache while it reads and writes.
        ("jax_compilation_cache_max_size", MAX_BYTES),
        ("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS),
    ):
        jax.config.update(name, value)


def _directory() -> Path | None:
    """Returns the directory of the programs for this kind of processor; None if it cannot be written to."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        # The machines that share a home may differ, and a program for one processor may crash on another.
        directory = cache / "flaxseg" / f"programs-{hashlib.sha256(_processor().encode()).hexdigest()[:8]}"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home.
        return None
    return directory if os.access(directory, os.W_OK) else None


def _processor() -> str:
    """Returns what distinguishes the processor of this machine: its architecture, and its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()} {flags}"
