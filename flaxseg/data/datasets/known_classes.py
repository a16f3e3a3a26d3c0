"""The classes of public datasets, found by their names or by the dataset's: for networks that were trained on them."""

from collections.abc import Mapping, Sequence

from flaxseg.data.datasets.cityscapes import CLASSES as CITYSCAPES
from flaxseg.data.datasets.voc import CLASS_NAMES as VOC
from flaxseg.data.datasets.voc import color_of
from flaxseg.data.masks.ade20k import COLORS as ADE20K
from flaxseg.data.masks.coco_stuff import COLORS as COCO_STUFF
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.types import Color


def _rgb(digits: str) -> Color:
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


KNOWN: Mapping[str, Mapping[str, Color]] = {
    "ade20k": {name: _rgb(digits) for name, digits in ADE20K.items()},
    "cocostuff": {name: _rgb(digits) for name, digits in COCO_STUFF.items()},
    "cityscapes": {name: color for name, (_, color) in CITYSCAPES.items()},
    "voc": {name: color_of(index) for index, name in enumerate(VOC)},
}
"""For each dataset, the color of each class by its name, in the order of the classes."""

_ENOUGH = 0.9


def palette_of(class_names: Sequence[str]) -> tuple[Color, ...]:
    """Returns the colors of classes: those of the known dataset that nearly all of them belong to, or the default ones.

    Args:
      class_names: one name per class, in any order.
    """
    names, colors = [_key(name) for name in class_names], default_palette(len(class_names))
    for classes in KNOWN.values():
        known = {_key(name): color for name, color in classes.items()}
        if sum(name in known for name in names) >= _ENOUGH * max(len(names), len(known)):
            return tuple(known.get(name, color) for name, color in zip(names, colors, strict=True))
    return colors


def names_of(dataset: str, num_classes: int) -> tuple[str, ...]:
    """Returns the names of the classes of a known dataset; () if it is not known or has another number of classes.

    Args:
      dataset: a text that contains the dataset's name, such as "ADE20K (150 classes)".
      num_classes: the number of classes.
    """
    for name, classes in KNOWN.items():
        if name in _key(dataset) and len(classes) == num_classes:
            return tuple(classes)
    return ()


def _key(name: str) -> str:
    """Returns a name without what spellings of it differ in."""
    return "".join(character for character in name.lower() if character.isalnum())
