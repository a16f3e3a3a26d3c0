"""Prediction of TIFF and NPY files that are larger than memory: blocks are read, predicted and written in turn."""

import contextlib
import dataclasses
import errno
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flaxseg.data.decode.blocks import BlockReader, open_blocks, row_blocks
from flaxseg.data.decode.tiff_npy import palette_colors
from flaxseg.deploy.files import new_file
from flaxseg.deploy.images import ImageReader
from flaxseg.deploy.mask_tiff import georeference, write_mask_tiff
from flaxseg.deploy.predictor import Predictor
from flaxseg.errors import ArgumentError, DataError


def predict_large(model: Predictor, path: str, mask: Path) -> tuple[tuple[int, int], np.ndarray]:
    """Predicts an image without ever having it, or its mask, whole in memory.

    Args:
      model: the network.
      path: a TIFF or NPY file.
      mask: the file of the class indices, uint8[H, W]: an NPY file, or a TIFF with the palette of the classes and with
        the georeference of the image.

    Returns:
      Height and width, and the number of pixels of each class, int64[K].

    Raises:
      WriteError: the mask cannot be written.
      DataError: the image cannot be read in blocks, or the network was trained on images that were resized or rescaled.
    """
    with contextlib.ExitStack() as stack:
        image = LargeImage(model.reader, stack.enter_context(contextlib.closing(open_blocks(path))), path)
        new = stack.enter_context(new_file(mask))
        # A TIFF is written in order and compressed, so that the blocks are first collected in a file that is not.
        scratch = stack.enter_context(_scratch_file(new))
        size = image.shape[:2]
        bar = stack.enter_context(
            tqdm(total=math.prod(size), desc=Path(path).name, unit="px", unit_scale=True, disable=None)
        )
        with LabelFile(scratch, size, num_classes=len(model.classes), progress=bar.update) as labels:
            _predict_into(model, image, labels)
        if new != scratch:
            with contextlib.closing(open_blocks(str(scratch))) as collected:
                write_mask_tiff(new, collected, model.palette, tags=georeference(path))
        return size, labels.areas


def count_classes(mask: str, num_classes: int) -> tuple[tuple[int, int], np.ndarray]:
    """Returns the height and width of a TIFF or NPY mask, and the number of pixels of each class, int64[K].

    Raises:
      DataError: the mask cannot be read.
    """
    with contextlib.closing(open_blocks(mask)) as stored:
        areas = sum(np.bincount(rows.ravel(), minlength=num_classes) for rows in row_blocks(stored))
        return stored.shape[:2], np.asarray(areas)


@dataclasses.dataclass(frozen=True)
class LargeImage:
    """An image in a file, as the network takes it; only the blocks that are asked for are read.

    Attributes:
      reader: brings values to the form that the network takes.
      stored: the stored values.
      name: its name in messages.
    """

    reader: ImageReader
    stored: BlockReader
    name: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C), with the network's number of channels.

        Raises:
          DataError: the image has another number of channels.
        """
        return (*self.stored.shape[:2], self[:1, :1].shape[2])

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """Returns rows and columns, uint8 or float32[h, w, C] in 0..255."""
        values, palette = self.stored[key], self.stored.palette
        values = values if palette is None else palette_colors(values, palette, name=self.name)
        return self.reader.prepare(values, name=self.name)


class LabelFile:
    """An NPY file uint8[H, W] that blocks are assigned to.

    Attributes:
      areas: the number of pixels of each class that was assigned, int64[K].

    Args:
      path: the file, which is created.
      size: height and width.
      num_classes: the number of classes K.
      progress: called with the number of pixels of each block.

    Raises:
      OSError: the file cannot be written, such as when no space is left; space for all of it is reserved at once where
        the operating system can.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], *, num_classes: int, progress: Callable[[int], object] = lambda _: None
    ) -> None:
        self.areas = np.zeros(num_classes, np.int64)
        self._width, self._progress = size[1], progress
        self._file = open(path, "wb")  # noqa: SIM115 (closed by the context manager)
        try:
            header = {"descr": "|u1", "fortran_order": False, "shape": size}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()
            _reserve(self._file.fileno(), self._start + math.prod(size))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "LabelFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __setitem__(self, key: tuple[slice, slice], block: np.ndarray) -> None:
        """Writes the class indices uint8[h, w] of rows and columns."""
        rows, columns = key
        block = np.ascontiguousarray(block, np.uint8)
        for first, values in [(rows.start, block)] if block.shape[1] == self._width else enumerate(block, rows.start):
            self._file.seek(self._start + first * self._width + columns.start)
            self._file.write(values.data)
        self.areas += np.bincount(block.ravel(), minlength=len(self.areas))
        self._progress(block.size)


def _predict_into(model: Predictor, image: LargeImage, labels: LabelFile) -> None:
    try:
        model.predict_into(image, labels)
    except ArgumentError as error:
        limit = model.reader.max_megapixels
        raise DataError(
            f"{image.name}: has more megapixels than max_megapixels = {limit:g}, and {error.problem}"
        ) from error


def _reserve(descriptor: int, size: int) -> None:
    """Reserves disk space for a file, so that a full disk is reported before the work and not after it."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


@contextlib.contextmanager
def _scratch_file(mask: Path) -> Iterator[Path]:
    """Yields the mask's own path if it is an NPY file, or else that of an NPY file beside it, which is then removed."""
    path = mask.with_suffix(".npy")
    try:
        yield path
    finally:
        if path != mask:
            path.unlink(missing_ok=True)
