"""Statistics of a split, computed by reading every example once."""

import dataclasses
import hashlib

import cv2
import numpy as np

from flaxseg.data.batching import check_image, check_label
from flaxseg.data.threads import read_in_order
from flaxseg.data.types import IGNORE_LABEL, Example, SegmentationDataset
from flaxseg.errors import DataError, UnknownColors, UnknownValues


@dataclasses.dataclass(frozen=True)
class Problem:
    """An example that cannot be used.

    Attributes:
      index: its index in the source.
      message: the message of the error that reading it raises; without the remedy where `unknown` is set, because one
        remedy fits all masks.
      unknown: the error itself if the mask contains values or colors that belong to no class.
    """

    index: int
    message: str
    unknown: UnknownValues | UnknownColors | None = None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of the N usable examples of a split with K classes, and the problems of the other examples.

    Attributes:
      num_classes: K.
      indices: int64[N], the indices of the usable examples in the source, ascending.
      ids: the N ids.
      sizes: int64[N, 2], heights and widths.
      channels: int64[N], numbers of channels.
      orientations: int64[N], the EXIF orientations that were applied, 1..8.
      counts: int64[N, K + 1], the number of pixels of each class; the last column counts ignored pixels.
      is_float: bool[N], whether an image is float32, because its file stores more than 8 bits per channel; the others
        are uint8.
      value_range: the lowest and the highest value in the images.
      clipped_fractions: the fractions of the values in float32 images that are 0 and 255, the values to which
        everything outside the range that files are read with is clipped.
      mean: float64[C], the mean over all pixels of all images, in 0..255; None if the numbers of channels differ or
        there is no image.
      std: float64[C], the standard deviation over all pixels of all images; None where `mean` is None.
      digests: a digest of each image, equal for images that are equal in every pixel.
      hashes: uint64[N, 2], difference hashes: those of similar images differ in few bits.
      problems: the examples that cannot be used.
    """

    num_classes: int
    indices: np.ndarray
    ids: tuple[str, ...]
    sizes: np.ndarray
    channels: np.ndarray
    orientations: np.ndarray
    counts: np.ndarray
    is_float: np.ndarray
    value_range: tuple[float, float]
    clipped_fractions: tuple[float, float]
    mean: np.ndarray | None
    std: np.ndarray | None
    digests: tuple[bytes, ...]
    hashes: np.ndarray
    problems: tuple[Problem, ...]

    @property
    def num_examples(self) -> int:
        """The number of examples, usable or not."""
        return len(self.ids) + len(self.problems)

    @property
    def class_fractions(self) -> np.ndarray:
        """float64[K]: the fraction of the valid pixels that belongs to each class."""
        pixels = self.counts[:, :-1].sum(0)
        return pixels / max(int(pixels.sum()), 1)

    @property
    def ignored_fraction(self) -> float:
        """The fraction of all pixels that is ignored."""
        return int(self.counts[:, -1].sum()) / max(int(self.counts.sum()), 1)

    @property
    def occurrences(self) -> np.ndarray:
        """int64[K]: the number of images in which each class occurs."""
        return (self.counts[:, :-1] > 0).sum(0)

    @property
    def all_ignored(self) -> list[str]:
        """The ids of the examples without valid pixels."""
        return [self.ids[i] for i in np.flatnonzero(self.counts[:, :-1].sum(1) == 0)]


def compute_statistics(dataset: SegmentationDataset, *, num_threads: int, description: str = "read") -> Statistics:
    """Reads every example once and returns the statistics; an example that raises DataError becomes a problem.

    Args:
      dataset: the split to read.
      num_threads: the number of threads that read and decode; 0 uses the calling thread, -1 one thread per core.
      description: the text in front of the progress bar, which is shown only in a terminal.
    """

    def read(index: int) -> _ExampleStatistics | Problem:
        try:
            return _example_statistics(_read_checked(dataset, index), index, dataset)
        except (UnknownValues, UnknownColors) as error:
            # The traceback would keep the image in memory.
            return Problem(index, error.fact, error.with_traceback(None))
        except DataError as error:
            return Problem(index, str(error))

    rows, problems = [], []
    for result in read_in_order(range(len(dataset.source)), read, num_threads=num_threads, description=description):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            rows.append(result)
    return _combine(rows, problems, dataset.num_classes)


def class_counts(dataset: SegmentationDataset, *, num_threads: int) -> np.ndarray:
    """Returns the number of pixels of each class in each example; the last column counts ignored pixels.

    Args:
      dataset: the split to read; every example is read once.
      num_threads: the number of threads that read and decode; 0 uses the calling thread, -1 one thread per core.

    Returns:
      int64[N, num_classes + 1].

    Raises:
      DataError: an example cannot be used; the error is that of the first one.
    """

    def read(index: int) -> np.ndarray:
        return _count_classes(_read_checked(dataset, index)["label"], dataset.num_classes)

    rows = list(read_in_order(range(len(dataset.source)), read, num_threads=num_threads, description="class pixels"))
    return np.array(rows, np.int64).reshape(-1, dataset.num_classes + 1)


def _read_checked(dataset: SegmentationDataset, index: int) -> Example:
    example = dataset.source[index]
    image, label = example["image"], example["label"]
    if image.ndim != 3 or label.shape != image.shape[:2]:
        raise DataError(
            f"{example['id']}: the image has the shape {list(image.shape)} and the label {list(label.shape)}; they "
            "must be [H, W, C] and [H, W] with the same height and width"
        )
    check_image(image, example["id"])
    check_label(label, dataset.num_classes, example["id"])
    return example


@dataclasses.dataclass(frozen=True)
class _ExampleStatistics:
    """One row of Statistics."""

    index: int
    id: str
    size: tuple[int, int]
    orientation: int
    counts: np.ndarray
    is_float: bool
    lowest: float
    highest: float
    clipped: tuple[int, int]
    mean: np.ndarray
    std: np.ndarray
    digest: bytes
    hash: np.ndarray


def _example_statistics(example: Example, index: int, dataset: SegmentationDataset) -> _ExampleStatistics:
    image = example["image"]
    mean, std = _moments(image)
    return _ExampleStatistics(
        index=index,
        id=example["id"],
        size=(image.shape[0], image.shape[1]),
        orientation=dataset.source.exif_orientation(index),
        counts=_count_classes(example["label"], dataset.num_classes),
        is_float=image.dtype != np.uint8,
        lowest=float(image.min()),
        highest=float(image.max()),
        clipped=(0, 0) if image.dtype == np.uint8 else (int((image <= 0).sum()), int((image >= 255).sum())),
        mean=mean,
        std=std,
        digest=_image_digest(image),
        hash=_difference_hash(image),
    )


def _count_classes(label: np.ndarray, num_classes: int) -> np.ndarray:
    pixels = np.bincount(label.ravel(), minlength=256)
    return np.append(pixels[:num_classes], pixels[IGNORE_LABEL])


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the standard deviation of each channel, float64[C]."""
    # cv2 takes up to four channels at once, and needs no copy as floats.
    groups = [np.ascontiguousarray(image[..., first : first + 4]) for first in range(0, image.shape[2], 4)]
    moments = [cv2.meanStdDev(group) for group in groups]
    return np.concatenate([mean[:, 0] for mean, _ in moments]), np.concatenate([std[:, 0] for _, std in moments])


def _image_digest(image: np.ndarray) -> bytes:
    digest = hashlib.blake2b(f"{image.dtype}{image.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _difference_hash(image: np.ndarray) -> np.ndarray:
    """Returns uint64[2]: for 8 x 8 cells, whether a cell is darker than the next in its row, and in its column."""
    cells = cv2.resize(np.ascontiguousarray(image[..., :3]), (9, 9), interpolation=cv2.INTER_AREA)
    gray = cells.reshape(9, 9, -1).mean(-1)
    darker = gray[:8, :8] < gray[:8, 1:], gray[:8, :8] < gray[1:, :8]
    return np.packbits(darker).view(np.uint64)


def _combine(rows: list[_ExampleStatistics], problems: list[Problem], num_classes: int) -> Statistics:
    sizes = np.array([row.size for row in rows], np.int64).reshape(-1, 2)
    channels = np.array([len(row.mean) for row in rows], np.int64)
    mean, std = _pooled_moments(rows, sizes.prod(1)) if len(set(channels.tolist())) == 1 else (None, None)
    return Statistics(
        num_classes=num_classes,
        indices=np.array([row.index for row in rows], np.int64),
        ids=tuple(row.id for row in rows),
        sizes=sizes,
        channels=channels,
        orientations=np.array([row.orientation for row in rows], np.int64),
        counts=np.array([row.counts for row in rows], np.int64).reshape(-1, num_classes + 1),
        is_float=np.array([row.is_float for row in rows], bool),
        value_range=(min((row.lowest for row in rows), default=0.0), max((row.highest for row in rows), default=0.0)),
        clipped_fractions=_clipped_fractions(rows),
        mean=mean,
        std=std,
        digests=tuple(row.digest for row in rows),
        hashes=np.array([row.hash for row in rows], np.uint64).reshape(-1, 2),
        problems=tuple(problems),
    )


def _clipped_fractions(rows: list[_ExampleStatistics]) -> tuple[float, float]:
    values = sum(row.size[0] * row.size[1] * len(row.mean) for row in rows if row.is_float)
    low, high = (sum(row.clipped[end] for row in rows) / max(values, 1) for end in (0, 1))
    return low, high


def _pooled_moments(rows: list[_ExampleStatistics], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the standard deviation over the pixels of all images together, float64[C]."""
    means, stds = np.array([row.mean for row in rows]), np.array([row.std for row in rows])
    mean = np.average(means, axis=0, weights=pixels)
    # Computed about the common mean, because the difference of large squares would lose digits.
    return mean, np.sqrt(np.average(stds**2 + (means - mean) ** 2, axis=0, weights=pixels))
