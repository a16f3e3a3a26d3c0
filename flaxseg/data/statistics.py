"""Facts of a dataset, gathered by reading every example once; of the pictures themselves nothing is kept."""

import dataclasses
import hashlib
from typing import NamedTuple

import cv2
import numpy as np

from flaxseg.data.threads import read_in_order
from flaxseg.data.types import IGNORE_LABEL, Example, SegmentationDataset, check_label, orientation_of
from flaxseg.errors import DataError, UnknownColors, UnknownValues


class Problem(NamedTuple):
    """An example that cannot be used.

    Attributes:
      place: its number in the dataset, from 0.
      message: of the error that reading it raises.
      unknown: the error itself where its mask holds values or colors without a class.
    """

    place: int
    message: str
    unknown: UnknownValues | UnknownColors | None = None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Facts of the N examples of a split that can be used, and the problems of the others. K classes.

    Attributes:
      num_classes: K.
      places: int64[N]: the numbers of the usable examples in the dataset, rising.
      ids: what each is called.
      sizes: int64[N, 2]: heights and widths.
      channels: int64[N]: numbers of channels.
      orientations: int64[N]: the EXIF orientations that were carried out, 1..8.
      counts: int64[N, K + 1]: pixels of each class, and last the ignored ones.
      wide: bool[N]: whether a picture is float32, of more than 8 bits a channel as stored; others are uint8.
      value_range: the lowest and highest value in the pictures.
      at_ends: of the values of wide pictures, the shares that are 0 and 255, as all outside of the range that files
        are read with become.
      mean: float64[C] over all pixels of all pictures, on the scale of the pictures, 0..255; None where numbers of
        channels differ or there is no picture.
      std: the standard deviation in the same way.
      digests: equal for pictures that are equal in every pixel.
      hashes: uint64[N, 2]: difference hashes, which differ in few bits for pictures that look alike.
      problems: the examples that cannot be used.
    """

    num_classes: int
    places: np.ndarray
    ids: tuple[str, ...]
    sizes: np.ndarray
    channels: np.ndarray
    orientations: np.ndarray
    counts: np.ndarray
    wide: np.ndarray
    value_range: tuple[float, float]
    at_ends: tuple[float, float]
    mean: np.ndarray | None
    std: np.ndarray | None
    digests: tuple[bytes, ...]
    hashes: np.ndarray
    problems: tuple[Problem, ...]

    @property
    def num_examples(self) -> int:
        """How many examples there are, usable or not."""
        return len(self.ids) + len(self.problems)

    @property
    def shares(self) -> np.ndarray:
        """float64[K]: each class's share of the pixels that are not ignored."""
        pixels = self.counts[:, :-1].sum(0)
        return pixels / max(int(pixels.sum()), 1)

    @property
    def ignored_share(self) -> float:
        """The ignored pixels' share of all."""
        return int(self.counts[:, -1].sum()) / max(int(self.counts.sum()), 1)

    @property
    def occurrences(self) -> np.ndarray:
        """int64[K]: in how many pictures each class occurs."""
        return (self.counts[:, :-1] > 0).sum(0)

    @property
    def all_ignored(self) -> list[str]:
        """The examples without any pixel of a class."""
        return [self.ids[i] for i in np.flatnonzero(self.counts[:, :-1].sum(1) == 0)]


def scan(dataset: SegmentationDataset, *, num_threads: int, description: str = "read") -> Statistics:
    """Reads every example once and returns what was found; an example that raises DataError does not stop it.

    Args:
      dataset: the split to read.
      num_threads: threads that read and decode; 0: none beside the caller's; -1: one for each core.
      description: what stands before the progress bar, which only a terminal shows.
    """

    def read(index: int) -> _Facts | Problem:
        try:
            return _facts(_checked(dataset, index), index, dataset)
        except (UnknownValues, UnknownColors) as error:
            # Its trace would keep the picture in memory.
            return Problem(index, str(error), error.with_traceback(None))
        except DataError as error:
            return Problem(index, str(error))

    facts, problems = [], []
    for result in read_in_order(range(len(dataset.source)), read, num_threads=num_threads, description=description):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            facts.append(result)
    return _gathered(facts, problems, dataset.num_classes)


def class_counts(dataset: SegmentationDataset, *, num_threads: int) -> np.ndarray:
    """Returns how many pixels each example has of each class, int64[N, num_classes + 1]; last the ignored ones.

    Args:
      dataset: the split to read; every example is read once.
      num_threads: threads that read and decode; 0: none beside the caller's; -1: one for each core.

    Raises:
      DataError: an example cannot be used; of the first that cannot.
    """

    def read(index: int) -> np.ndarray:
        return _counts(_checked(dataset, index)["label"], dataset.num_classes)

    rows = list(read_in_order(range(len(dataset.source)), read, num_threads=num_threads, description="class pixels"))
    return np.array(rows, np.int64).reshape(-1, dataset.num_classes + 1)


def _checked(dataset: SegmentationDataset, index: int) -> Example:
    example = dataset.source[index]
    image, label = example["image"], example["label"]
    if image.ndim != 3 or label.shape != image.shape[:2]:
        raise DataError(
            f"{example['id']}: the picture has the shape {list(image.shape)} and the label {list(label.shape)}; they "
            "have to be [H, W, C] and [H, W], of one height and width"
        )
    check_label(label, dataset.num_classes, example["id"])
    return example


class _Facts(NamedTuple):
    """Of one example; as in Statistics."""

    place: int
    id: str
    size: tuple[int, int]
    orientation: int
    counts: np.ndarray
    is_wide: bool
    lowest: float
    highest: float
    at_ends: tuple[int, int]
    mean: np.ndarray
    std: np.ndarray
    digest: bytes
    hash: np.ndarray


def _facts(example: Example, place: int, dataset: SegmentationDataset) -> _Facts:
    image = example["image"]
    mean, std = _moments(image)
    return _Facts(
        place=place,
        id=example["id"],
        size=(image.shape[0], image.shape[1]),
        orientation=orientation_of(dataset.source, place),
        counts=_counts(example["label"], dataset.num_classes),
        is_wide=image.dtype != np.uint8,
        lowest=float(image.min()),
        highest=float(image.max()),
        at_ends=(0, 0) if image.dtype == np.uint8 else (int((image <= 0).sum()), int((image >= 255).sum())),
        mean=mean,
        std=std,
        digest=_digest(image),
        hash=_difference_hash(image),
    )


def _counts(label: np.ndarray, num_classes: int) -> np.ndarray:
    pixels = np.bincount(label.ravel(), minlength=256)
    return np.append(pixels[:num_classes], pixels[IGNORE_LABEL])


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64[C]; cv2 takes four at once, without a copy as floats."""
    groups = [np.ascontiguousarray(image[..., first : first + 4]) for first in range(0, image.shape[2], 4)]
    moments = [cv2.meanStdDev(group) for group in groups]
    return np.concatenate([mean[:, 0] for mean, _ in moments]), np.concatenate([std[:, 0] for _, std in moments])


def _digest(image: np.ndarray) -> bytes:
    digest = hashlib.blake2b(f"{image.dtype}{image.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _difference_hash(image: np.ndarray) -> np.ndarray:
    """uint64[2]: whether each of 8 x 8 cells is darker than the next in its row, and than the next in its column."""
    cells = cv2.resize(np.ascontiguousarray(image[..., :3]), (9, 9), interpolation=cv2.INTER_AREA)
    gray = cells.reshape(9, 9, -1).mean(-1)
    darker = gray[:8, :8] < gray[:8, 1:], gray[:8, :8] < gray[1:, :8]
    return np.packbits(darker).view(np.uint64)


def _gathered(facts: list[_Facts], problems: list[Problem], num_classes: int) -> Statistics:
    sizes = np.array([f.size for f in facts], np.int64).reshape(-1, 2)
    channels = np.array([len(f.mean) for f in facts], np.int64)
    mean, std = _pooled(facts, sizes.prod(1)) if len(set(channels.tolist())) == 1 else (None, None)
    return Statistics(
        num_classes=num_classes,
        places=np.array([f.place for f in facts], np.int64),
        ids=tuple(f.id for f in facts),
        sizes=sizes,
        channels=channels,
        orientations=np.array([f.orientation for f in facts], np.int64),
        counts=np.array([f.counts for f in facts], np.int64).reshape(-1, num_classes + 1),
        wide=np.array([f.is_wide for f in facts], bool),
        value_range=(min((f.lowest for f in facts), default=0.0), max((f.highest for f in facts), default=0.0)),
        at_ends=_at_ends(facts),
        mean=mean,
        std=std,
        digests=tuple(f.digest for f in facts),
        hashes=np.array([f.hash for f in facts], np.uint64).reshape(-1, 2),
        problems=tuple(problems),
    )


def _at_ends(facts: list[_Facts]) -> tuple[float, float]:
    values = sum(f.size[0] * f.size[1] * len(f.mean) for f in facts if f.is_wide)
    low, high = (sum(f.at_ends[end] for f in facts) / max(values, 1) for end in (0, 1))
    return low, high


def _pooled(facts: list[_Facts], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the pixels of all pictures together, float64[C]."""
    means, stds = np.array([f.mean for f in facts]), np.array([f.std for f in facts])
    mean = np.average(means, axis=0, weights=pixels)
    # Around the common mean: the difference of large squares would lose digits.
    return mean, np.sqrt(np.average(stds**2 + (means - mean) ** 2, axis=0, weights=pixels))
