"""The table of class names and colors that some datasets have beside their masks: class_dict.csv."""

import csv
import os

from flaxseg.data.decode.limits import check_regular
from flaxseg.data.types import MAX_CLASSES, Color

CLASS_TABLE = "class_dict.csv"

IGNORED_NAMES = ("void", "unlabeled", "unlabelled", "ignore", "ignored")
"""Names, in lower case, of the pixels that belong to no class."""


def read_class_table(root: str) -> dict[str, Color]:
    """Returns the color of each class by its name, from `class_dict.csv` in the folder of a dataset.

    The file has a row per class and the columns name, r, g and b, in any order and case.

    Args:
      root: the folder of the dataset.

    Returns:
      The colors in the order of the file; {} if there is no such file, or if it is not such a table.
    """
    path = os.path.join(os.path.expanduser(root), CLASS_TABLE)
    try:
        check_regular(path)
        with open(path, encoding="utf-8-sig", newline="") as file:
            heading, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        columns = [[cell.lower() for cell in heading].index(column) for column in ("name", "r", "g", "b")]
        named = [[row[column] for column in columns] for row in rows]
        colors = {name: (int(red), int(green), int(blue)) for name, red, green, blue in named}
    except (OSError, ValueError, IndexError, csv.Error):
        return {}
    is_table = len(rows) == len(colors) == len(set(colors.values())) <= MAX_CLASSES
    return colors if is_table and all(0 <= value <= 255 for color in colors.values() for value in color) else {}
