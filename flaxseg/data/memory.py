"""The free memory of the host, and the check that a batch fits into it."""

import psutil

from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ArgumentError

_GIBIBYTE = 2**30
_CHECKED_FRACTION = 0.01


def available_memory() -> int:
    """Returns the number of bytes of host memory that can be allocated without swapping."""
    return int(psutil.virtual_memory().available)


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
