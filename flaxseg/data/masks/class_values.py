"""From the values that mask files store to class indices."""

import dataclasses
import operator
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import DataError, UnknownValues

_MOST_INFERRED = 64

MaskValue = int | tuple[int, ...]
"""The mask value of a class, or the values of one that several stand for."""


@dataclasses.dataclass(frozen=True)
class ClassValues:
    """Which mask value stands for which class.

    Attributes:
      values: `values[i]` is the mask value of class i, or a tuple of those that stand for it; each in 0..255 and
        named once.
      ignore_values: mask values of pixels that nothing counts. 255 is one of them unless it is a class's value.

    Raises:
      DataError: no value, one outside of 0..255, or one given twice.
    """

    values: tuple[MaskValue, ...]
    ignore_values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        everything = [*flat(self.values), *self.ignore_values]
        wrong = sorted({value for value in everything if not 0 <= value <= 255})
        twice = sorted({value for value in everything if everything.count(value) > 1})
        if wrong or twice or not self.values or () in self.values:
            problem = f"{_listed(wrong)} outside of it" if wrong else f"{_listed(twice)} twice" if twice else "no class"
            raise DataError(
                f"data.options.values {list(self.values)} and data.options.ignore_values {list(self.ignore_values)} "
                f"have to name values of 0..255, each once, and at least one class: there is {problem}"
            )

    def to_classes(self, mask: np.ndarray, *, name: str) -> np.ndarray:
        """The class index of each pixel, or IGNORE_LABEL.

        Args:
          mask: uint8[H, W] of mask values.
          name: what a message calls it.

        Returns:
          uint8[H, W].

        Raises:
          UnknownValues: the mask holds values that belong to no class; a DataError.
        """
        table = np.full(256, IGNORE_LABEL, np.uint8)
        for index, value in enumerate(self.values):
            table[list(flat([value]))] = index
        classes = cv2.LUT(mask, table)
        # Both what is ignored and what is unknown becomes IGNORE_LABEL; most masks hold neither, and are done here.
        if classes.max(initial=0) == IGNORE_LABEL and cv2.LUT(mask, self._is_unknown()).any():
            self._raise_unknown(mask, name)
        return classes

    def _is_unknown(self) -> np.ndarray:
        unknown = np.ones(256, np.uint8)
        unknown[[*flat(self.values), *self.ignore_values, IGNORE_LABEL]] = 0
        return unknown

    def _raise_unknown(self, mask: np.ndarray, name: str) -> None:
        found, pixels = np.unique(mask, return_counts=True)
        counts = dict(zip(found.tolist(), pixels.tolist(), strict=True))
        unknown = [value for value in counts if self._is_unknown()[value]]
        share = sum(counts[value] for value in unknown) / mask.size
        ignored = sorted({*self.ignore_values, *({IGNORE_LABEL} - set(flat(self.values)))})
        raise UnknownValues(
            f"{name}: holds the mask value(s) {_listed(unknown)} ({share:.2%} of its pixels), "
            "which belong to no class. "
            f"Classes have the values {_listed(flat(self.values))}, ignored are {_listed(ignored) or 'none'}; "
            "of the datasets folder and tfds, name each further value in data.options.values (a class) or "
            "data.options.ignore_values. "
            "Odd values along edges come from masks that were resized smoothly or saved as JPEG: export those again",
            counts=counts,
            values=self.values,
            ignore_values=self.ignore_values,
        )


def class_values(given: Sequence[int | Sequence[int]]) -> tuple[MaskValue, ...]:
    """The mask values of the classes as a user names them: a number each, or several for one class.

    Raises:
      DataError: something else.
    """
    try:
        return tuple(
            tuple(map(operator.index, value)) if isinstance(value, Sequence) else operator.index(value)
            for value in given
        )
    except TypeError:
        raise DataError(
            f"data.options.values is {given!r}: it has to be a sequence with the mask value of each class, such as "
            "(0, 255), or several for one class, such as (0, (1, 255))"
        ) from None


def flat(values: Iterable[MaskValue]) -> tuple[int, ...]:
    """All mask values of these classes, one after the other."""
    return tuple(v for value in values for v in (value if isinstance(value, tuple) else (value,)))


def inferred_values(found: Iterable[int], *, ignore_values: Sequence[int] = ()) -> tuple[int, ...]:
    """The classes' values, from all mask values that a dataset holds: the fewest surprises without being told.

    Exactly 0 and 255 are background and foreground. Otherwise 255 is ignored and every other value that occurs is a
    class, in rising order: 0, 1, 2, ... where that is what the masks hold, and no empty classes where they hold
    1, 2, 3 or 0, 128.

    Raises:
      DataError: nothing but ignored values, or more than 64 others, which smooth edges make rather than classes.
    """
    values = sorted(set(found) - set(ignore_values))
    if values != [0, IGNORE_LABEL]:
        values = [value for value in values if value != IGNORE_LABEL]
    if not values:
        raise DataError(
            f"all mask pixels have ignored values ({_listed([*ignore_values, IGNORE_LABEL])}): no class is left; "
            "check data.options.ignore_values, or name the classes' values in data.options.values"
        )
    if len(values) > _MOST_INFERRED:
        raise DataError(
            f"the masks hold {len(values)} different values ({_listed(values)}), too many to take each for a class; "
            "name the classes' values in data.options.values. If the masks should hold few values, they were resized "
            "smoothly or saved with loss: export them again"
        )
    return tuple(values)


def _listed(values: Iterable[int], most: int = 24) -> str:
    """`0..10, 12`: runs of neighbors drawn together."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    texts = [f"{first}" if first == last else f"{first}..{last}" for first, last in runs]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
