"""What classes are called and which colors they are shown in, as a user's options say."""

import os
from collections.abc import Sequence

import numpy as np

from flaxseg.data.masks.class_values import MaskValue, flat
from flaxseg.errors import DataError


def read_names(root: str, class_names: Sequence[str] | str) -> tuple[str, ...]:
    """The names themselves, or those in the text file of that path below `root`, one on each line; () for none.

    Raises:
      DataError: the file cannot be read, or is empty.
    """
    if not isinstance(class_names, str):
        return tuple(class_names)
    if not class_names:
        return ()
    path = os.path.join(root, os.path.expanduser(class_names))
    example = tuple(class_names.split(",")) if "," in class_names else ("background", "cat")
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = tuple(line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"data.options.class_names: the file {path} cannot be read ({error}); "
            f"give a text file with one name on each line, or the names themselves, such as {example!r}"
        ) from None
    if not names:
        raise DataError(f"data.options.class_names: the file {path} holds no names; write one on each line")
    return names


def default_names(values: tuple[MaskValue, ...]) -> tuple[str, ...]:
    """Names for classes of these mask values, where none are given."""
    if values == (0, 255):
        return ("background", "foreground")
    return tuple("+".join(map(str, flat([value]))) for value in values)


def checked_palette(palette: Sequence[Sequence[int]], num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """`palette` as tuples, if it holds one color (red, green, blue) of 0..255 for each class.

    Raises:
      DataError: it does not.
    """
    array = np.asarray(palette)
    if array.shape != (num_classes, 3) or array.min() < 0 or array.max() > 255:
        raise DataError(
            f"data.options.palette has the shape {list(array.shape)}: for {num_classes} classes it has to hold "
            f"{num_classes} colors (red, green, blue), each number in 0..255"
        )
    return tuple((int(red), int(green), int(blue)) for red, green, blue in array)
