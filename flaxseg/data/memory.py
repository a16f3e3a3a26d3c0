"""The free memory of the host, and the check that a batch fits into it."""

from pathlib import Path

from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ArgumentError

_GIBIBYTE = 2**30
_CHECKED_FRACTION = 0.01


_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
_NO_LIMIT = 2**60
"""Control groups of version 1 have a number as large as this instead of no limit."""


_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def available_memory() -> int:
    """Returns the number of bytes of host memory that can be allocated without swapping.

    That is what the operating system reports, or less in a container with a limit.
    """
    import psutil  # It takes long to load.

    left = [limit - used for limit, used in _limits()]
    return max(min([int(psutil.virtual_memory().available), *left]), 0)


def memory_limit() -> int | None:
    """Returns the memory limit of this process's container or control group, in bytes; None if there is none."""
    return min((limit for limit, _ in _limits()), default=None)


def _limits() -> list[tuple[int, int]]:
    """Returns the limit of each control group that this process is in, and the bytes in use that cannot be freed."""
    try:
        lines = _CGROUP_OF_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # Another operating system than Linux.
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files = (_CGROUP, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            files = (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        root, limit, usage = files
        group = root / path.lstrip("/")
        # In a container the group's own folder may be the root.
        groups = [each for each in (group, *group.parents) if each.is_relative_to(root)]
        found += [values for each in groups if (values := _limit(each, limit, usage)) is not None]
    return found


def _limit(group: Path, limit: str, usage: str) -> tuple[int, int] | None:
    """Returns the limit of a control group and the bytes in use, without the cache of files; None: no limit."""
    try:
        allowed, used = int((group / limit).read_text(encoding="ascii")), int((group / usage).read_text("ascii"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None  # "max", or no such file.
    cache = statistics.get("total_inactive_file", statistics.get("inactive_file", "0"))
    return None if allowed >= _NO_LIMIT else (allowed, max(used - int(cache), 0))


def check_batch_fits(
    dataset: SegmentationDataset, size: tuple[int, int], *, batch_size: int, process_count: int
) -> None:
    """Checks that the images that this process reads for one batch fit into the free memory of the host.

    Args:
      dataset: the dataset, whose first example has the channels and the dtype of all.
      size: height and width of the images in a batch.
      batch_size: the number of examples in a batch over all processes together.
      process_count: the number of processes.

    Raises:
      ArgumentError: they do not fit; the message has both figures.
      DataError: the first example cannot be read.
    """
    available, pixels = available_memory(), batch_size // process_count * size[0] * size[1]
    # The first example is read only if the batch could be too large: hardly an image has 100 bytes per pixel.
    if pixels < _CHECKED_FRACTION * available:
        return
    image = dataset.source[0]["image"]
    needed = pixels * image.shape[-1] * image.dtype.itemsize
    if needed > available:
        local = f" ({batch_size // process_count:,} of them in this process)" if process_count > 1 else ""
        raise ArgumentError(
            "batch_size",
            batch_size,
            f"the images of one batch{local}, {size[0]}x{size[1]}x{image.shape[-1]} {image.dtype} each, take "
            f"{needed / _GIBIBYTE:,.1f} GiB, but {available / _GIBIBYTE:,.1f} GiB of host memory are free; use at most "
            f"{available * batch_size // needed // process_count * process_count:,}, or smaller images",
        )


def size_text(num_bytes: float) -> str:
    """Returns a number of bytes with a unit, such as `233 MiB`."""
    power = 0
    while abs(num_bytes) >= 1024 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1024, power + 1
    return f"{num_bytes:.0f} {_UNITS[power]}" if not power or num_bytes >= 100 else f"{num_bytes:.1f} {_UNITS[power]}"
