"""What flows from the data to the step: a batch, its ignore label, and the data set that examples come from."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

import numpy as np

from flaxseg.errors import DataError

IGNORE_LABEL = 255
"""Label of a pixel that neither the loss nor any metric counts."""

MAX_CLASSES = IGNORE_LABEL
"""Labels are uint8 and 255 is taken, so 0..254 are left for classes."""

Batch = Mapping[str, Any]
"""`image`: uint8[B, H, W, C]; `label`: uint8[B, H, W] of class indices or IGNORE_LABEL.

Evaluation at the pictures' own resolution has one key more: `size`, int32[B, 2], the height and width that
each label occupies in the upper left of the `label` array, which is then larger than `image`. Examples that
only fill up a batch are all IGNORE_LABEL.
"""


class Example(TypedDict):
    """One picture with its label, both at the picture's own size."""

    image: np.ndarray
    """uint8[H, W, C]"""
    label: np.ndarray
    """uint8[H, W], class indices or IGNORE_LABEL"""
    id: str
    """What a message calls this example: its file, or its key in the data set."""


class Source(Protocol):
    """Random access to the examples of one split. Reading the same index twice gives the same example."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclasses.dataclass(frozen=True)
class SegmentationDataset:
    """One split of a data set.

    Attributes:
      source: random access to the examples.
      num_classes: how many classes a label can name, 1..255.
      class_names: a name for each class.
      palette: a colour for each class, `(red, green, blue)` in 0..255.

    Raises:
      DataError: more than 255 classes, or names or colours that are not one for each class.
    """

    source: Source
    num_classes: int
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not 1 <= self.num_classes <= MAX_CLASSES:
            raise DataError(
                f"a data set of {self.num_classes} classes: labels are one byte with {IGNORE_LABEL} for ignored "
                f"pixels, so 1 to {MAX_CLASSES} classes are possible; merge classes or map rare ones to ignore"
            )
        for what, given in (("class names", self.class_names), ("palette colours", self.palette)):
            if len(given) != self.num_classes:
                raise DataError(f"{len(given)} {what} for {self.num_classes} classes: give one for each class")
        twice = {name for name in self.class_names if self.class_names.count(name) > 1}
        if twice:
            raise DataError(
                f"class names that stand for two classes: {', '.join(sorted(twice))}; name each its own way"
            )
