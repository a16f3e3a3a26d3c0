"""The types of data: examples and the source that they come from, batches, and the dataset of one split."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import numpy as np

from flaxseg.errors import ArgumentError, Range, number_of

IGNORE_LABEL = 255
"""Label of an ignored pixel, which is excluded from the loss and from every metric."""

MAX_CLASSES = IGNORE_LABEL
"""The largest number of classes: labels are uint8 and 255 is IGNORE_LABEL, which leaves 0..254."""

_MAX_NAMED = 8
"""More classes than this are left out of the description of a dataset."""

_MAX_SOURCE = 120
"""Characters; of a source with a longer description, only the type is shown."""

Color = tuple[int, int, int]
"""(red, green, blue), each 0..255."""

Batch = Mapping[str, Any]
"""`image`: uint8[B, H, W, C], or float32[B, H, W, C] in 0..255; `label`: uint8[B, H, W], class indices or IGNORE_LABEL.

Evaluation at the images' native resolution adds a key: `size`, int32[B, 2], the height and width that each label
occupies in the upper left of the `label` array, which is then larger than `image`. In padding examples, which only
complete a batch, every pixel is IGNORE_LABEL.

Where images keep their aspect ratio and scale, batches have two more keys: `extent`, int32[B, 2], the height and width
of the part of `image` that is not padding, and for training `offset`, float32[B, 2] in 0..1, the random position of the
crop; see `flaxseg.data.crops.cut_canvases`.
"""


def bucket_size(length: int) -> int:
    """Returns the side of an array for images of different sizes, so that few shapes have to be compiled.

    It is the smallest of 64, 96, 128, 192, 256, 384, ... (powers of two and 1.5 times those) >= `length`.
    """
    power = 64
    while power < length:
        if length <= power * 3 // 2:
            return power * 3 // 2
        power *= 2
    return power


class Example(TypedDict):
    """One image with its label, both at the image's native size."""

    image: np.ndarray
    """uint8[H, W, C], or float32[H, W, C] in 0..255 where a file stores more than 8 bits per channel."""
    label: np.ndarray
    """uint8[H, W], class indices or IGNORE_LABEL."""
    id: str
    """The name of the example in messages and tables: its file, or its key in the dataset."""


class Source(abc.ABC):
    """Random access to the examples of one split. Reading the same index twice returns the same example.

    A source of your own derives from this class and defines `__len__` and `__getitem__`. The other methods have
    defaults; override those that your source can answer faster or more precisely.
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples."""

    @abc.abstractmethod
    def __getitem__(self, index: int, /) -> Example:
        """Returns an example.

        Raises:
          DataError: the example cannot be read; the message names it.
        """

    def example_id(self, index: int) -> str:
        """Returns the `id` of an example. By default this reads the example, image included."""
        return self[index]["id"]

    def digest(self) -> str:
        """Returns a string that differs between sources whose examples or order differ; "" if it is unknown.

        It must not depend on the machine or the folder, and must be cheap: no image is decoded for it.
        """
        return ""

    def exif_orientation(self, index: int) -> int:
        """Returns the EXIF orientation that was applied to an image, 1..8; 1 (upright) if none was or it is unknown."""
        return 1

    def reduced(self, size: tuple[int, int]) -> "Source":
        """Returns a source of the same examples for a caller that will resize every image to `size` or smaller.

        Its images may be smaller than stored, which is faster to decode, but no side is shorter than in `size`. Labels
        keep their size. By default this is the source itself.

        Args:
          size: height and width.
        """
        return self


@dataclasses.dataclass(frozen=True)
class Selection:
    """How the examples of a split were selected from those of its dataset.

    Attributes:
      text: where the selection comes from, such as `from lists/val.txt` or `held out at random from 70`.
      unused_lists: the path, with `{split}`, of lists that exist for both splits but were not read, because
        `split_list` has no `{split}`; "" if there are none.
    """

    text: str
    unused_lists: str = ""


@dataclasses.dataclass(frozen=True)
class SegmentationDataset:
    """One split of a dataset: a sequence of its examples, with what describes its classes.

    Attributes:
      source: random access to the examples.
      num_classes: the number of classes, 1..255.
      class_names: one name per class.
      palette: one color per class, `(red, green, blue)` in 0..255.
      selection: how the examples were selected; None if that is unknown.

    Raises:
      ArgumentError: a source that is not a `Source`, more than 255 classes, or names or colors that do not match the
        number of classes.
    """

    source: Source
    num_classes: int
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    selection: Selection | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise ArgumentError("source", type(self.source), "must be an instance of a subclass of flaxseg.data.Source")
        if self.num_classes not in Range(1, MAX_CLASSES, integer=True):
            raise ArgumentError(
                "num_classes",
                self.num_classes,
                f"must be an integer from 1 to {MAX_CLASSES}, because labels are one byte and {IGNORE_LABEL} marks "
                "ignored pixels; merge classes, or ignore rare ones",
            )
        for argument in ("class_names", "palette"):
            values = getattr(self, argument)
            if len(values) != self.num_classes:
                raise ArgumentError(
                    argument,
                    values,
                    f"has {number_of(len(values), 'value')} for {self.num_classes} classes; give one per class",
                )
        repeated = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if repeated:
            raise ArgumentError(
                "class_names",
                self.class_names,
                f"repeats {', '.join(repeated)}; give each class its own name",
            )

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.source)

    def __bool__(self) -> bool:
        """Returns True, for an empty dataset, too."""
        return True

    def __getitem__(self, index: int, /) -> Example:
        """Reads an example; a negative index counts from the end.

        Raises:
          DataError: the example cannot be read; the message names it.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"the dataset has {len(self):,} examples, but the index is {index:,}")
        return self.source[index % len(self)]

    def __iter__(self) -> Iterator[Example]:
        return (self.source[index] for index in range(len(self)))

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:_MAX_NAMED]) + (", ..." if self.num_classes > _MAX_NAMED else "")
        source = repr(self.source)
        if len(source) > _MAX_SOURCE or "\n" in source:
            source = type(self.source).__name__
        return f"SegmentationDataset({len(self):,} examples, {self.num_classes} classes: {names}; {source})"
