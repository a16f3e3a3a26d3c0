"""The names and the display colors of the classes, as given by the options of a dataset."""

import os
from collections.abc import Sequence

import numpy as np

from flaxseg.data.decode.limits import check_regular
from flaxseg.data.masks.class_values import MaskValue, flatten_values
from flaxseg.data.types import Color
from flaxseg.errors import ArgumentError, DataError

_TUPLE_MARKS = "()[]'\" "
"""What surrounds the names in a tuple, apart from commas."""


def read_class_names(root: str, class_names: Sequence[str] | str) -> tuple[str, ...]:
    """Returns class names given directly or in a text file.

    Args:
      root: the folder that the path of the file is relative to.
      class_names: the names, also separated by commas in one string, or the path of a text file with one name on each
        line; "" or () for none.

    Raises:
      ArgumentError: names that are parts of a tuple whose quotes are missing or doubled, such as `(cat`.
      DataError: the file cannot be read, or is empty.
    """
    names = _given_names(root, class_names)
    if parts := [name for name in names if _is_part_of_tuple(str(name))]:
        repaired = ",".join(str(name).strip(_TUPLE_MARKS) for name in names)
        raise ArgumentError(
            "class_names",
            class_names,
            f"must be names, but {parts[0]!r} is a part of a tuple or of a quotation; write class_names={repaired}",
        )
    return names


def default_names(values: tuple[MaskValue, ...]) -> tuple[str, ...]:
    """Returns names for classes with these mask values."""
    if values == (0, 255):
        return ("background", "foreground")
    return tuple("+".join(map(str, flatten_values([value]))) for value in values)


def parse_palette(palette: Sequence[Sequence[int]], num_classes: int) -> tuple[Color, ...]:
    """Returns `palette` as tuples of integers.

    Raises:
      ArgumentError: it is not one color (red, green, blue) in 0..255 per class.
    """
    array = np.asarray(palette)
    if array.shape != (num_classes, 3) or array.min() < 0 or array.max() > 255:
        raise ArgumentError(
            "palette",
            palette,
            f"must be {num_classes} colors (red, green, blue) for {num_classes} classes, each number in 0..255; its "
            f"shape is {list(array.shape)}",
        )
    return tuple((int(red), int(green), int(blue)) for red, green, blue in array)


def _given_names(root: str, class_names: Sequence[str] | str) -> tuple[str, ...]:
    """Returns the class names as they are given."""
    if not isinstance(class_names, str):
        return tuple(class_names)
    if not class_names:
        return ()
    path = os.path.join(root, os.path.expanduser(class_names))
    if "," in class_names and not os.path.exists(path):
        return tuple(name.strip() for name in class_names.split(","))
    try:
        check_regular(path)
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"class_names: the file {path} cannot be read ({error}); give a text file with one name on each line, or "
            f"the names themselves, such as background,cat"
        ) from None
    if not names:
        raise DataError(f"class_names: the file {path} contains no names; write one name on each line")
    return names


def _is_part_of_tuple(name: str) -> bool:
    """Returns whether a name has a bracket without its counterpart, or begins with a quotation mark."""
    return name.startswith(("'", '"')) or any(name.count(left) != name.count(right) for left, right in ("()", "[]"))
