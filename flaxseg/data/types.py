"""What flows from the data to the step: a batch, its ignore label, and the dataset that examples come from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict

import numpy as np

from flaxseg.errors import DataError

IGNORE_LABEL = 255
"""Label of a pixel that neither the loss nor any metric counts."""

MAX_CLASSES = IGNORE_LABEL
"""Labels are uint8 and 255 is taken, so 0..254 are left for classes."""

Batch = Mapping[str, Any]
"""`image`: uint8[B, H, W, C], or float32[B, H, W, C] in 0..255; `label`: uint8[B, H, W], class indices or IGNORE_LABEL.

Evaluation at the pictures' own resolution has one key more: `size`, int32[B, 2], the height and width that
each label occupies in the upper left of the `label` array, which is then larger than `image`. Examples that
only fill up a batch are all IGNORE_LABEL.
"""


class Example(TypedDict):
    """One picture with its label, both at the picture's own size."""

    image: np.ndarray
    """uint8[H, W, C], or float32[H, W, C] in 0..255 where files have wider pixels than 8 bits"""
    label: np.ndarray
    """uint8[H, W], class indices or IGNORE_LABEL"""
    id: str
    """What a message calls this example: its file, or its key in the dataset."""


class Source(Protocol):
    """Random access to the examples of one split. Reading the same index twice gives the same example.

    A source may have further methods: `reduced_to(size: tuple[int, int]) -> Source`, which `reduced` calls,
    `id_of(index: int) -> str`, which `identity` calls, `digest() -> str`, which `digest` calls, and
    `orientation_of(index: int) -> int`, which `orientation_of` calls.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


def reduced(source: Source, size: tuple[int, int]) -> Source:
    """The same examples for a use that resizes their pictures to `size`, height and width, or below.

    Pictures may then come smaller than stored, though with no side below `size`, which is faster to decode; labels
    keep their size. A source that cannot do this is returned as it is.
    """
    return source.reduced_to(size) if hasattr(source, "reduced_to") else source


def identity(source: Source, index: int) -> str:
    """What an example is called; it is read only where the source has no `id_of(index: int) -> str`."""
    return source.id_of(index) if hasattr(source, "id_of") else source[index]["id"]


def digest(source: Source) -> str:
    """Differs for sources of other examples or another order; "" where telling would take reading them."""
    return source.digest() if hasattr(source, "digest") else ""


def orientation_of(source: Source, index: int) -> int:
    """The EXIF orientation, 1..8, that was carried out on a picture; 1, upright, where the source does not tell it."""
    return source.orientation_of(index) if hasattr(source, "orientation_of") else 1


@dataclasses.dataclass(frozen=True)
class Mapped:
    """The examples of `source`, each as `change` returns it."""

    source: Source
    change: Callable[[Example], Example]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        return self.change(self.source[index])

    def digest(self) -> str:
        """As `digest`."""
        return digest(self.source)

    def reduced_to(self, size: tuple[int, int]) -> "Mapped":
        """As `reduced`."""
        return dataclasses.replace(self, source=reduced(self.source, size))


@dataclasses.dataclass(frozen=True)
class SegmentationDataset:
    """One split of a dataset.

    Attributes:
      source: random access to the examples.
      num_classes: how many classes a label can name, 1..255.
      class_names: a name for each class.
      palette: a color for each class, `(red, green, blue)` in 0..255.

    Raises:
      DataError: more than 255 classes, or names or colors that are not one for each class.
    """

    source: Source
    num_classes: int
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not 1 <= self.num_classes <= MAX_CLASSES:
            raise DataError(
                f"a dataset of {self.num_classes} classes: labels are one byte with {IGNORE_LABEL} for ignored "
                f"pixels, so 1 to {MAX_CLASSES} classes are possible; merge classes or map rare ones to ignore"
            )
        for what, given in (("class names", self.class_names), ("palette colors", self.palette)):
            if len(given) != self.num_classes:
                raise DataError(f"{len(given)} {what} for {self.num_classes} classes: give one for each class")
        twice = {name for name in self.class_names if self.class_names.count(name) > 1}
        if twice:
            raise DataError(
                f"class names that stand for two classes: {', '.join(sorted(twice))}; name each its own way"
            )


def check_label(label: np.ndarray, num_classes: int, identity: str) -> None:
    """Checks that a label, uint8[H, W], holds nothing but classes and IGNORE_LABEL.

    Raises:
      DataError: it does not; names the example by `identity`.
    """
    if label.max(initial=0) < num_classes:
        return
    wrong = label[(label >= num_classes) & (label != IGNORE_LABEL)]
    if wrong.size:
        raise DataError(
            f"{identity}: the label has values {', '.join(map(str, np.unique(wrong)[:10]))}, which are no class: the "
            f"dataset has {num_classes} classes, so 0..{num_classes - 1} and {IGNORE_LABEL} (ignored) are possible; "
            "map the values where the dataset is read, or raise its num_classes"
        )


def stack(examples: Sequence[Example]) -> Batch:
    """The examples as one batch.

    Raises:
      DataError: as `check_alike`.
    """
    return {"image": stacked(examples, "image"), "label": stacked(examples, "label")}


def stacked(examples: Sequence[Example], key: Literal["image", "label"]) -> np.ndarray:
    """One of the two arrays of `stack`."""
    for example in examples:
        check_alike(examples[0], example, key)
    return np.stack([example[key] for example in examples])


def check_alike(first: Example, example: Example, key: Literal["image", "label"]) -> None:
    """Checks that an array of an example can lie in one batch with that of another.

    Raises:
      DataError: they differ in shape or type, or are of another type than uint8 and, of pictures, float32; names both.
    """
    array, like = example[key], first[key]
    if array.shape != like.shape or array.dtype != like.dtype or array.dtype not in _PIXELS[key]:
        raise DataError(
            f"{example['id']}: {key} is {array.dtype}{list(array.shape)} where {first['id']} has "
            f"{like.dtype}{list(like.shape)}; all of a dataset have one number of channels and are "
            f"{' or all '.join(map(str, _PIXELS[key]))} (of the dataset folder, data.options.channels makes "
            "gray and RGB alike); save all with the same channels and bit depth"
        )


_PIXELS = {"image": (np.dtype(np.uint8), np.dtype(np.float32)), "label": (np.dtype(np.uint8),)}
