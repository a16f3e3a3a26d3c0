"""A check of colored masks: colors without a class."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flaxseg.data.masks.class_table import CLASS_TABLE, IGNORED_NAMES
from flaxseg.data.statistics import Statistics
from flaxseg.data.types import Color
from flaxseg.errors import UnknownColors, number_of
from flaxseg.inspection.color_names import color_name
from flaxseg.inspection.findings import Finding, Setting, abbreviate
from flaxseg.inspection.mask_values import MAX_FORGOTTEN_CLASSES, severity_of_unusable

_MANY = 8
"""More colors without a class than this may be artifacts."""

_WHITE = (255, 255, 255)
"""A color in which borders are often drawn."""


def check_unknown_colors(
    splits: Sequence[Statistics],
    *,
    options: Collection[str],
    class_names: Sequence[str] | str = (),
    class_table: Mapping[str, Color] | None = None,
    skip_bad: int = 0,
) -> list[Finding]:
    """Reports mask colors that belong to no class, with the settings that may repair them.

    Args:
      splits: the statistics of all splits.
      options: names of the dataset's options that settings may suggest.
      class_names: the names of the classes, or the path of a file with them; empty if the user gave none.
      class_table: the color of each class by its name, in a table beside the masks; None or empty if there is none.
      skip_bad: the number of unusable examples that training tolerates, in all splits together.
    """
    errors = [p.unknown for split in splits for p in split.problems if isinstance(p.unknown, UnknownColors)]
    if not errors:
        return []
    severity = severity_of_unusable(splits, skip_bad)
    pixels: Counter[Color] = Counter()
    masks: Counter[Color] = Counter()
    for error in errors:
        pixels.update(error.counts)
        masks.update(error.counts.keys())
    unknown = [color for color, _ in pixels.most_common()]
    shown = abbreviate([f"({r},{g},{b}) ({pixels[r, g, b]:,} pixels, {masks[r, g, b]} masks)" for r, g, b in unknown])
    colors, ignored = errors[0].colors, errors[0].ignore_colors
    belong = "belongs" if len(unknown) == 1 else "belong"
    what = f"contain {number_of(len(unknown), 'color')} that {belong} to no class"
    if "colors" in options and not colors:
        what = "are color images, but the colors of the classes are not set; they contain"
    text = f"{len(errors)} masks {what}: {shown}. "
    if len(unknown) > MAX_FORGOTTEN_CLASSES:
        text += "So many colors come from masks that were interpolated or saved as JPEG: export them again as PNG"
        return [Finding(severity, text)]
    if len(unknown) > _MANY:
        text += "Along edges, they come from masks that were interpolated or saved as JPEG: export those again as PNG. "
    if "colors" not in options:
        text += "Masks of this dataset contain class numbers: check that these are its own masks, or read them with "
        return [Finding(severity, text + "the dataset 'folder'")]
    classes = {name: color for name, color in (class_table or {}).items() if name.lower() not in IGNORED_NAMES}
    if class_table and not (colors or class_names) and not pixels.keys().isdisjoint(classes.values()):
        setting = _table_setting(classes, [*class_table.values()], unknown)
        return [Finding(severity, f"{text}This setting may be right:", (setting,))]
    when = "if these are additional classes" if colors else "if each of them is a class"
    settings = [_classes_setting(when, (*colors, *sorted(unknown)), class_names)]
    replaced = _nearest_pairs(_absent(splits, errors), unknown)
    if replaced:
        names = {color: _name_of(colors.index(color), class_names) for color in replaced}
        occur = "occurs" if len(replaced) == 1 else "occur"
        text += f"{_joined(f'{names[color]} has {_text(color)}' for color in replaced)}, which {occur} nowhere. "
        when = "if " + _joined(f"{_text(new)} is {names[old]}" for old, new in replaced.items())
        settings.insert(0, Setting(when, {"colors": tuple(replaced.get(color, color) for color in colors)}))
    if colors:
        settings.append(Setting("if these pixels are to be ignored", {"ignore_colors": (*ignored, *unknown)}))
    elif _WHITE in unknown and len(unknown) > 2:
        setting = _classes_setting(
            "if white pixels are to be ignored", tuple(sorted({*unknown} - {_WHITE})), class_names
        )
        settings.append(dataclasses.replace(setting, arguments={**setting.arguments, "ignore_colors": (_WHITE,)}))
    return [Finding(severity, text + "One of these settings may be right:", tuple(settings))]


def _absent(splits: Sequence[Statistics], errors: Sequence[UnknownColors]) -> list[Color]:
    """Returns the colors of the classes that occur in no mask."""
    colors, occurring = errors[0].colors, frozenset[Color]().union(*(error.occurring for error in errors))
    of_classes = (split.occurrences for split in splits if split.num_classes == len(colors))
    used = sum(of_classes, np.zeros(len(colors), np.int64))
    return [color for color, count in zip(colors, used, strict=True) if not count and color not in occurring]


def _nearest_pairs(old: Iterable[Color], new: Iterable[Color]) -> dict[Color, Color]:
    """Returns the new color that replaces each old one: the two nearest, then the nearest of the others, and so on."""
    old = list(old)
    pairs: dict[Color, Color] = {}
    for a, b in sorted(itertools.product(old, new), key=lambda pair: math.dist(*pair)):
        if a not in pairs and b not in pairs.values():
            pairs[a] = b
    return {color: pairs[color] for color in old if color in pairs}


def _name_of(index: int, class_names: Sequence[str] | str) -> str:
    return class_names[index] if not isinstance(class_names, str) and class_names else f"class {index}"


def _text(color: Color) -> str:
    return str(color).replace(" ", "")


def _joined(parts: Iterable[str]) -> str:
    return " and ".join(parts)


def _classes_setting(when: str, colors: tuple[Color, ...], class_names: Sequence[str] | str) -> Setting:
    """Returns the setting of the colors of all classes, with a name for each that has none yet."""
    if isinstance(class_names, str) and class_names:
        return Setting(f"{when}, which then need names in {class_names}", {"colors": colors})
    names = list(class_names)
    if len(names) == len(colors):
        return Setting(when, {"colors": colors})
    for color in colors[len(names) :]:
        names.append(next(name for name in _numbered(color_name(color)) if name not in names))
    return Setting(f"{when}; give them better names", {"colors": colors, "class_names": tuple(names)})


def _table_setting(classes: Mapping[str, Color], table: Sequence[Color], found: Collection[Color]) -> Setting:
    """Returns the setting of the classes of a table; its other colors, and those found but not in it, are ignored."""
    others = sorted({*found} - {*table})
    ignored = [color for color in table if color not in classes.values()] + others
    arguments: dict[str, Any] = {"colors": tuple(classes.values()), "class_names": tuple(classes)}
    rest = ", and all other colors are to be ignored" if others else ""
    return Setting(
        f"if the classes are those of {CLASS_TABLE}{rest}",
        arguments | ({"ignore_colors": tuple(ignored)} if ignored else {}),
    )


def _numbered(name: str) -> Iterator[str]:
    """Yields a name, and then the name with the numbers from 2."""
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(2))
