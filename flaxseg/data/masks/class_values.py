"""Conversion of the values in a mask to class indices."""

import dataclasses
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError, DataError, UnknownValues, number_of

_MAX_INFERRED = 64
_MANY = 8

INTERPOLATED = (
    ". So many along edges mean that the mask was resized with interpolation or saved as JPEG; export such masks again"
)
"""What many values or colors without a class in one mask mean."""

MaskValue = int | tuple[int, ...]
"""The mask value of a class, or a tuple of its values if it has several."""


@dataclasses.dataclass(frozen=True)
class ClassValues:
    """The mask value or values of each class.

    Attributes:
      values: the mask value of each class, or a tuple of its values; each in 0..255 and only once.
      ignore_values: mask values of ignored pixels. 255 is one of them unless it is in `values`.

    Raises:
      ArgumentError: no value, a value outside 0..255, or a value given twice.
    """

    values: tuple[MaskValue, ...]
    ignore_values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or () in self.values:
            raise ArgumentError("values", self.values, "must have at least one value for each class")
        for argument in ("values", "ignore_values"):
            given = getattr(self, argument)
            outside = sorted({value for value in flatten_values(given) if not 0 <= value <= 255})
            if outside:
                raise ArgumentError(argument, given, f"must be in 0..255, but has {_format_values(outside)}")
        everything = [*flatten_values(self.values), *self.ignore_values]
        repeated = sorted({value for value in everything if everything.count(value) > 1})
        if repeated:
            raise ArgumentError(
                "values",
                self.values,
                f"repeats {_format_values(repeated)}; give each value once in `values` or `ignore_values`",
            )

    def to_classes(self, mask: np.ndarray, *, name: str) -> np.ndarray:
        """Returns the class index of each pixel, or IGNORE_LABEL.

        Args:
          mask: uint8[H, W] of mask values.
          name: the name of the mask, for messages.

        Returns:
          uint8[H, W].

        Raises:
          UnknownValues: the mask contains values that are neither in `values` nor ignored; a DataError.
        """
        table = np.full(256, IGNORE_LABEL, np.uint8)
        for index, value in enumerate(self.values):
            table[list(flatten_values([value]))] = index
        classes = cv2.LUT(mask, table)
        # Ignored and unknown values both become IGNORE_LABEL; a mask without either needs no further check.
        if classes.max(initial=0) == IGNORE_LABEL and cv2.LUT(mask, self._is_unknown()).any():
            raise self._unknown_values_error(mask, name)
        return classes

    def _is_unknown(self) -> np.ndarray:
        unknown = np.ones(256, np.uint8)
        unknown[[*flatten_values(self.values), *self.ignore_values, IGNORE_LABEL]] = 0
        return unknown

    def _unknown_values_error(self, mask: np.ndarray, name: str) -> UnknownValues:
        found, pixels = np.unique(mask, return_counts=True)
        counts = dict(zip(found.tolist(), pixels.tolist(), strict=True))
        unknown = [value for value in counts if self._is_unknown()[value]]
        fraction = sum(counts[value] for value in unknown) / mask.size
        class_values = flatten_values(self.values)
        ignored = sorted({*self.ignore_values, *({IGNORE_LABEL} - set(class_values))})
        noun, verb = ("value", "belongs") if len(unknown) == 1 else ("values", "belong")
        return UnknownValues(
            f"{name}: contains the mask {noun} {_format_values(unknown)} ({fraction:.2%} of its pixels), which {verb} "
            "to no class",
            remedy=f". The classes have the values {_format_values(class_values)}, and ignored are "
            f"{_format_values(ignored) or 'none'}; for the datasets `folder` and `tfds`, add each other value to "
            "`values` (a class) or to `ignore_values`" + (INTERPOLATED if len(unknown) > _MANY else ""),
            counts=counts,
            values=self.values,
            ignore_values=self.ignore_values,
        )


def parse_class_values(values: Sequence[int | Sequence[int]]) -> tuple[MaskValue, ...]:
    """Returns the mask values of the classes as integers and tuples of integers.

    Args:
      values: one mask value per class, or a sequence of several.

    Raises:
      ArgumentError: it is something else.
    """
    try:
        return tuple(
            tuple(map(operator.index, value)) if isinstance(value, Sequence) else operator.index(value)
            for value in values
        )
    except TypeError:
        raise ArgumentError(
            "values",
            values,
            "must be a sequence with the mask value of each class, such as (0, 255), or several for one class, such as "
            "(0, (1, 255))",
        ) from None


def values_beside_255(options: Mapping[str, Any], num_classes: int) -> tuple[MaskValue, ...]:
    """Returns the mask values of the classes if 255 is ignored only because it is not among them; () otherwise.

    Args:
      options: the options of a dataset, of which `values`, `ignore_values`, `reduce_zero_label` and `colors` matter.
      num_classes: the number of classes, which are 0, 1, 2, ... without `values`.

    Raises:
      ArgumentError: `values` are not mask values.
    """
    if options.get("reduce_zero_label") or options.get("colors"):
        return ()
    values = parse_class_values(options.get("values") or range(num_classes))
    return () if IGNORE_LABEL in {*flatten_values(values), *options.get("ignore_values", ())} else values


def flatten_values(values: Iterable[MaskValue]) -> tuple[int, ...]:
    """Returns all mask values of these classes in one tuple."""
    return tuple(v for value in values for v in (value if isinstance(value, tuple) else (value,)))


def infer_class_values(found: Iterable[int], *, ignore_values: Sequence[int] = ()) -> tuple[int, ...]:
    """Infers the mask values of the classes from all mask values that occur in a dataset.

    If the values are exactly 0 and 255, they are background and foreground. Otherwise 255 is ignored and every other
    value is a class, in ascending order. That gives 0, 1, 2, ... where the masks contain these, and no empty classes
    where they contain 1, 2, 3 or 0, 128.

    Args:
      found: the values that occur.
      ignore_values: mask values of ignored pixels.

    Raises:
      DataError: only ignored values, or more than 64 others, which come from smoothed edges rather than classes.
    """
    values = _occurring_classes(found, ignore_values)
    if not values:
        raise DataError(
            f"all mask pixels have ignored values ({_format_values([*ignore_values, IGNORE_LABEL])}), so there is no "
            "class; check `ignore_values`, or give the mask value of each class in `values`"
        )
    if len(values) > _MAX_INFERRED:
        raise DataError(
            f"the masks contain {len(values)} different values ({_format_values(values)}), too many for each to be a "
            "class; give the mask value of each class in `values`. If the masks should contain few values, they were "
            "resized with interpolation or saved with lossy compression; export them again"
        )
    return values


def values_of_names(
    names: Sequence[str], found: Iterable[int], *, ignore_values: Sequence[int] = ()
) -> tuple[int, ...]:
    """Infers the mask values of named classes from all mask values that occur in a dataset.

    As many values as names are the values that `infer_class_values` returns, so that one name per value does not
    change how masks are read. Otherwise the names are those of the values 0, 1, 2, ..., if all values that occur are
    among these, because some classes occur in no mask, or if all of these occur, so that reading a mask with another
    value raises an error.

    Args:
      names: the name of each class.
      found: the values that occur.
      ignore_values: mask values of ignored pixels.

    Raises:
      ArgumentError: there are not as many names as values, and the values are not class indices.
      DataError: only ignored values.
    """
    values = _occurring_classes(found, ignore_values)
    if not values:
        return infer_class_values((), ignore_values=ignore_values)
    if len(values) == len(names):
        return values
    indices = tuple(range(len(names)))
    if set(values) <= set(indices) or (set(indices) <= set(values) and IGNORE_LABEL not in values):
        return indices
    give = "is 'background' missing? Give" if lacks_background(names, values) else "give"
    raise ArgumentError(
        "class_names",
        names,
        f"has {number_of(len(names), 'name')}, but the masks contain {number_of(len(values), 'value')} besides ignored "
        f"ones: {_format_values(values)}; {give} one name per value, or the mask value of each class in `values`",
    )


def lacks_background(names: Sequence[str], values: Collection[int]) -> bool:
    """Returns whether the names of the classes are probably those of all mask values but 0, the background."""
    named = any(name.lower() in ("background", "bg", "_background_") for name in names)
    return bool(names) and not named and 0 in values and len(values) == len(names) + 1


def _occurring_classes(found: Iterable[int], ignore_values: Sequence[int]) -> tuple[int, ...]:
    """Returns the values that occur and are not ignored, ascending; 255 is a class only if 0 is the only other one."""
    values = tuple(sorted(set(found) - set(ignore_values)))
    return values if values == (0, IGNORE_LABEL) else tuple(value for value in values if value != IGNORE_LABEL)


def _format_values(values: Iterable[int], max_shown: int = 24) -> str:
    """Returns a text such as `0..10, 12`, with consecutive values as ranges."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    texts = [f"{first}" if first == last else f"{first}..{last}" for first, last in runs]
    return ", ".join(texts[:max_shown]) + (f" and {len(texts) - max_shown} more" if len(texts) > max_shown else "")
