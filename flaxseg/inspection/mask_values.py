"""Settings that repair mask values without a class, or values that were taken for the wrong thing."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from flaxseg.data.masks.class_colors import Color
from flaxseg.data.masks.class_values import MaskValue, flat
from flaxseg.data.statistics import Statistics
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import UnknownColors, UnknownValues
from flaxseg.inspection.findings import Finding, Setting, Severity, flag, listed

_MOST_CLASSES = 64
"""More values without a class than this are no classes that were forgotten."""

_FEW = 8
_THIN = 0.1
"""At least so many values, together with less than this share of the masks they are in, look like smooth edges."""


def of_unknown_values(
    splits: Sequence[Statistics], *, options: Collection[str], named: bool, skip_bad: int = 0
) -> list[Finding]:
    """Returns which values occur in masks without standing for a class, and the settings that would give them a place.

    Args:
      splits: the facts of all splits.
      options: the options that the dataset's function takes; settings are of these alone.
      named: whether class_names is set, so that further classes need further names.
      skip_bad: how many unusable examples of all splits training passes over; no more than these are no error.
    """
    severity = _severity(splits, skip_bad)
    errors = [p.unknown for split in splits for p in split.problems if isinstance(p.unknown, UnknownValues)]
    if not errors:
        return []
    values, ignored = errors[0].values, errors[0].ignore_values
    in_class = {*flat(values), *ignored, IGNORE_LABEL}
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    for error in errors:
        pixels.update(error.counts)
        masks.update(error.counts.keys())
    new = sorted(pixels.keys() - in_class)
    total = pixels.total() + sum(int(split.counts.sum()) for split in splits)
    shown = listed([f"{value} ({pixels[value] / total:.2%} of all pixels, {masks[value]} masks)" for value in new])
    text = f"{len(errors)} masks hold {len(new)} value(s) that belong to no class: {shown}. "
    if len(new) > _MOST_CLASSES or (len(new) >= _FEW and _share(errors, new) < _THIN):
        text += "So many with so few pixels come from masks that were resized smoothly or saved as JPEG: export them "
        return [Finding(severity, text + "again, as PNG and resized by the nearest pixel")]
    if "values" not in options:
        text += (
            "This dataset's values are fixed: check that these are its own masks, or read them with data.name=folder"
        )
        return [Finding(severity, text)]
    present = {value for value in pixels if value not in {*ignored, *({IGNORE_LABEL} - set(flat(values)))}}
    for split in splits:
        present.update(flat(value for value, count in zip(values, split.occurrences, strict=True) if count))
    settings = _settings(values, ignored, new, sorted(present), options, named)
    return [Finding(severity, text + "One of these settings may be right:", tuple(settings))]


def of_unknown_colors(splits: Sequence[Statistics], *, options: Collection[str], skip_bad: int = 0) -> list[Finding]:
    """Returns which colors occur in masks without standing for a class; arguments as of of_unknown_values()."""
    errors = [p.unknown for split in splits for p in split.problems if isinstance(p.unknown, UnknownColors)]
    if not errors:
        return []
    pixels: Counter[Color] = Counter()
    masks: Counter[Color] = Counter()
    for error in errors:
        pixels.update(error.counts)
        masks.update(error.counts.keys())
    new = [color for color, _ in pixels.most_common()]
    shown = listed([f"{_tuple(color)} ({pixels[color]:,} pixels, {masks[color]} masks)" for color in new])
    text = f"{len(errors)} masks hold {len(new)} color(s) that belong to no class: {shown}. "
    severity = _severity(splits, skip_bad)
    if len(new) > _MOST_CLASSES:
        text += "So many come from masks that were resized smoothly or saved as JPEG: export them again, as PNG"
        return [Finding(severity, text)]
    if "colors" not in options:
        text += "This dataset's masks hold numbers: check that these are its own, or read them with data.name=folder"
        return [Finding(severity, text)]
    classes, ignored = errors[0].colors, errors[0].ignore_colors
    when = "if these are further classes" if classes else "if each of them is a class"
    settings = [Setting(when, flag("data.options.colors", (*classes, *sorted(new))))]
    if classes:
        settings.append(Setting("if these pixels are void", flag("data.options.ignore_colors", (*ignored, *new))))
    return [Finding(severity, text + "One of these settings may be right:", tuple(settings))]


def _tuple(color: Color) -> str:
    return "({},{},{})".format(*color)


def _severity(splits: Sequence[Statistics], skip_bad: int) -> Severity:
    return "error" if sum(len(split.problems) for split in splits) > skip_bad else "warning"


def _share(errors: Sequence[UnknownValues], new: Collection[int]) -> float:
    of_new = sum(error.counts.get(value, 0) for error in errors for value in new)
    return of_new / sum(sum(error.counts.values()) for error in errors)


def _settings(
    values: tuple[MaskValue, ...], ignored: tuple[int, ...], new: list[int], present: list[int],
    options: Collection[str], named: bool,
) -> list[Setting]:  # fmt: skip
    """What the values without a class can be, the likeliest first."""
    found = []
    if len(present) == len(values):
        found.append(Setting("if these are the values of the classes, in their order", _values(present)))
    if new == [len(values)] and values == tuple(range(len(values))) and 0 in present:
        when = f"if 0 is background that is not to be learnt, and the classes are 1 to {len(values)}"
        found.append(Setting(when, _reduce_zero(len(values), ignored, options)))
    if len(set(present) - set(new)) >= 2:
        when = "if 0 is background that is not to be learnt" if new == [0] else "if these pixels are void"
        found.append(Setting(when, _ignore([*ignored, *new])))
    second = flat(values[1:2])
    if len(values) == 2 and len(new) == 1 and new[0] > max(second) and set(second) & set(present):
        found.append(Setting(f"if {new[0]} means the same as {second[0]}", _values([values[0], (*second, *new)])))
    if len(present) != len(values):
        names = ", and get names in data.options.class_names" if named else ""
        found.append(Setting(f"if these are further classes{names}", _values([*values, *new])))
    return found


def of_silent_values(
    splits: Sequence[Statistics], *, values: Sequence[MaskValue], ignored: Collection[int], options: Collection[str]
) -> list[Finding]:
    """Returns a warning where two classes were named, and 255, which is ignored by itself, may be the second.

    Args:
      splits: the facts of all splits.
      values: the mask values of the classes.
      ignored: the values that a user ignores; 255 among them is meant so.
      options: as in of_unknown_values().
    """
    fixed = "values" not in options or IGNORE_LABEL in {*ignored, *flat(values)}
    if fixed or len(values) != 2 or any(split.num_classes != 2 for split in splits):
        return []
    counts = np.concatenate([split.counts for split in splits]) > 0
    counts = counts[counts[:, :2].any(1)]
    second, void = counts[:, 1], counts[:, 2]
    if not void.any() or (second & void).any():
        return []
    why = "255 is ignored unless it is a class's value"
    if not second.any():
        text = f"of two classes the second never occurs, but ignored pixels do: {why}"
        setting = Setting("if the masks hold 0 and 255", _values([0, IGNORE_LABEL]))
    elif min(second.sum(), void.sum()) < 2:
        return []
    else:
        text = f"{second.sum()} masks hold the second class, {void.sum()} others ignored pixels, none both: {why}"
        merged = _values([values[0], (*flat([values[1]]), IGNORE_LABEL)])
        setting = Setting("if 255 is the second class in masks of another origin", merged)
    return [Finding("warning", text, (setting,))]


def of_inferred_values(
    values: Sequence[int], shares: np.ndarray, ignored: Sequence[int], *, options: Collection[str]
) -> list[Finding]:
    """Returns that each value found in the masks was made a class, with the settings if one is none.

    Args:
      values: the mask value of each class, as they were found.
      shares: of the pixels, for each of them.
      ignored: the values that are ignored already.
      options: as in of_unknown_values().
    """
    text = "data.options.values and class_names are not set, so every value found in the masks is a class: "
    rare = np.sort(shares)[: -max(2, len(values) // 4)]
    if len(rare) >= _FEW and rare.sum() < _THIN:
        text += f"{listed([str(value) for value in values])}. {len(rare)} of them have {rare.sum():.2%} of the pixels "
        text += "together, as in masks that were resized smoothly or saved as JPEG: export them again, as PNG and "
        return [Finding("warning", text + "resized by the nearest pixel, or name the classes' values")]
    highest, all_up_to_it = values[-1], tuple(values) == tuple(range(values[-1] + 1))
    settings = [Setting("if each of them is one, this saves reading all masks at every start", _values(values))]
    if not ignored:
        settings.append(Setting(f"if {highest} is void", _ignore([highest])))
    if all_up_to_it:
        when = f"if 0 is background that is not to be learnt, and the classes are 1 to {highest}"
        settings.append(Setting(when, _reduce_zero(highest, tuple(ignored), options)))
    shown = f"0 to {highest}" if all_up_to_it else listed([str(value) for value in values])
    return [Finding("note", text + shown, tuple(settings))]


def _values(values: Sequence[MaskValue]) -> str:
    return flag("data.options.values", tuple(values))


def _ignore(values: Sequence[int]) -> str:
    return flag("data.options.ignore_values", tuple(values))


def _reduce_zero(classes: int, ignored: tuple[int, ...], options: Collection[str]) -> str:
    if "reduce_zero_label" in options:
        return flag("data.options.reduce_zero_label", True)
    return f"{_values(range(1, classes + 1))} {_ignore([*ignored, 0])}"
