"""Sources that wrap another source: they change its labels, its ids or its order, or observe what is read."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from typing import Self

import numpy as np

from flaxseg.data.types import Example, Source


@dataclasses.dataclass(frozen=True)
class SourceWrapper(Source):
    """A source that delegates everything to another one; subclasses override what they change.

    Attributes:
      source: the wrapped source.
    """

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Example:
        return self.source[index]

    def example_id(self, index: int) -> str:
        """Returns the `id` of an example."""
        return self.source.example_id(index)

    def digest(self) -> str:
        """Returns the digest of the wrapped source."""
        return self.source.digest()

    def exif_orientation(self, index: int) -> int:
        """Returns the EXIF orientation that was applied to an image."""
        return self.source.exif_orientation(index)

    def reduced(self, size: tuple[int, int]) -> Self:
        """Returns the same wrapper around the reduced source."""
        return dataclasses.replace(self, source=self.source.reduced(size))


@dataclasses.dataclass(frozen=True)
class MappedSource(SourceWrapper):
    """The examples of a source with their labels or ids changed.

    Attributes:
      source: the wrapped source.
      map_label: function from uint8[H, W] to uint8[H, W]; None keeps the labels.
      map_id: function from the id of an example to its new id; None keeps the ids.
    """

    map_label: Callable[[np.ndarray], np.ndarray] | None = None
    map_id: Callable[[str], str] | None = None

    def __getitem__(self, index: int, /) -> Example:
        example = self.source[index]
        label, example_id = example["label"], example["id"]
        return {
            "image": example["image"],
            "label": self.map_label(label) if self.map_label else label,
            "id": self.map_id(example_id) if self.map_id else example_id,
        }

    def example_id(self, index: int) -> str:
        """Returns the new `id` of an example."""
        example_id = self.source.example_id(index)
        return self.map_id(example_id) if self.map_id else example_id


@dataclasses.dataclass(frozen=True)
class SortedSource(SourceWrapper):
    """The examples of a source in the order of their ids; `sort_by_id` makes one.

    Attributes:
      source: the wrapped source.
      order: the indices of the wrapped source in the order of the ids.
      ids: the ids in that order.
    """

    order: tuple[int, ...]
    ids: tuple[str, ...]

    def __getitem__(self, index: int, /) -> Example:
        return self.source[self.order[index]]

    def example_id(self, index: int) -> str:
        """Returns the `id` of an example."""
        return self.ids[index]

    def digest(self) -> str:
        """Returns the digest of the ids, the same for every source of these ids in this order."""
        return digest_ids(self.ids)

    def exif_orientation(self, index: int) -> int:
        """Returns the EXIF orientation that was applied to an image."""
        return self.source.exif_orientation(self.order[index])


@dataclasses.dataclass(frozen=True)
class SizeRecorder(SourceWrapper):
    """A source that records the sizes of the labels of the examples that are read.

    Attributes:
      source: the wrapped source.
      sizes: int64[N, 2], the height and width of each example; 0 until it is read. Reduced sources share it.
    """

    sizes: np.ndarray = dataclasses.field(compare=False)

    def __getitem__(self, index: int, /) -> Example:
        example = self.source[index]
        self.sizes[index] = example["label"].shape
        return example


def record_sizes(source: Source) -> SizeRecorder:
    """Returns the same source, which records the sizes of the examples that are read from now on."""
    return SizeRecorder(source, np.zeros((len(source), 2), np.int64))


def sort_by_id(source: Source) -> SortedSource:
    """Returns the examples of a source in the order of their ids; reads every id once."""
    ids = [source.example_id(index) for index in range(len(source))]
    order = sorted(range(len(source)), key=ids.__getitem__)
    return SortedSource(source, tuple(order), tuple(ids[index] for index in order))


def digest_ids(ids: Iterable[str]) -> str:
    """Returns a digest of the ids of a source's examples, in order: 32 hexadecimal digits."""
    joined = "\0".join(ids).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(joined, digest_size=16).hexdigest()
