"""Checks of the values in masks: values without a class, and values that probably stand for another class."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from flaxseg.data.masks.class_values import MaskValue, flatten_values, lacks_background
from flaxseg.data.statistics import Statistics
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import UnknownValues, number_of
from flaxseg.inspection.findings import Finding, Setting, Severity, abbreviate

MAX_FORGOTTEN_CLASSES = 64
"""More values or colors without a class than this are artifacts rather than classes that were forgotten."""

_MIN_ARTIFACTS = 8
_MAX_ARTIFACT_FRACTION = 0.1
"""At least this many values that together cover less than this fraction of the pixels look like interpolated edges."""


def check_unknown_values(
    splits: Sequence[Statistics], *, options: Collection[str], class_names: Sequence[str] = (), skip_bad: int = 0
) -> list[Finding]:
    """Reports mask values that belong to no class, with the settings that may repair them.

    Args:
      splits: the statistics of all splits.
      options: names of the dataset's options that settings may suggest.
      class_names: the names that the user gave the classes; () for none.
      skip_bad: the number of unusable examples that training tolerates, in all splits together.
    """
    errors = [p.unknown for split in splits for p in split.problems if isinstance(p.unknown, UnknownValues)]
    if not errors:
        return []
    severity = severity_of_unusable(splits, skip_bad)
    values, ignored = errors[0].values, errors[0].ignore_values
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    for error in errors:
        pixels.update(error.counts)
        masks.update(error.counts.keys())
    unknown = sorted(pixels.keys() - {*flatten_values(values), *ignored, IGNORE_LABEL})
    total = pixels.total() + sum(int(split.counts.sum()) for split in splits)
    shown = abbreviate([f"{v} ({pixels[v] / total:.2%} of all pixels, {number_of(masks[v], 'mask')})" for v in unknown])
    masks_contain = f"{number_of(len(errors), 'mask')} {'contains' if len(errors) == 1 else 'contain'}"
    belong = "belongs" if len(unknown) == 1 else "belong"
    text = f"{masks_contain} {number_of(len(unknown), 'value')} that {belong} to no class: {shown}. "
    artifacts = len(unknown) >= _MIN_ARTIFACTS and _pixel_fraction(errors, unknown) < _MAX_ARTIFACT_FRACTION
    if len(unknown) > MAX_FORGOTTEN_CLASSES or artifacts:
        text += "So many values on so few pixels come from masks that were interpolated or saved as JPEG: "
        return [Finding(severity, text + "export them again as PNG, resized by nearest neighbor")]
    if "values" not in options:
        text += "The values of this dataset are fixed: check that these are its own masks, or read them with "
        return [Finding(severity, text + "the dataset 'folder'")]
    present = {value for value in pixels if value not in {*ignored, *({IGNORE_LABEL} - set(flatten_values(values)))}}
    for split in splits:
        present.update(flatten_values(value for value, count in zip(values, split.occurrences, strict=True) if count))
    settings = _unknown_value_settings(values, ignored, unknown, sorted(present), options, bool(class_names))
    if unknown == [len(values)] and lacks_background(class_names, present):
        text += f"class_names has {number_of(len(class_names), 'name')}, but the masks have {len(present)} values; is "
        text += "'background' missing? "
        named = _values([*values, *unknown]) | {"class_names": ("background", *class_names)}
        settings.insert(0, Setting("if 'background' is missing", named))
    return [Finding(severity, text + "One of these settings may be right:", tuple(settings))]


def severity_of_unusable(splits: Sequence[Statistics], skip_bad: int) -> Severity:
    """Returns `error` if more examples are unusable than training tolerates, else `warning`."""
    return "error" if sum(len(split.problems) for split in splits) > skip_bad else "warning"


def _pixel_fraction(errors: Sequence[UnknownValues], values: Collection[int]) -> float:
    """Returns the fraction of the pixels of these masks that have one of the values."""
    pixels = sum(error.counts.get(value, 0) for error in errors for value in values)
    return pixels / sum(sum(error.counts.values()) for error in errors)


def _unknown_value_settings(
    values: tuple[MaskValue, ...], ignored: tuple[int, ...], unknown: list[int], present: list[int],
    options: Collection[str], has_class_names: bool,
) -> list[Setting]:  # fmt: skip
    """Returns what the unknown values may mean, the most likely first."""
    found = []
    if len(present) == len(values):
        found.append(Setting("if these are the values of the classes, in order", _values(present)))
    if unknown == [len(values)] and values == tuple(range(len(values))) and 0 in present:
        when = f"if 0 is background to be ignored, and the classes are 1 to {len(values)}"
        found.append(Setting(when, _reduce_zero(len(values), ignored, options)))
    if len(set(present) - set(unknown)) >= 2:
        when = "if 0 is background to be ignored" if unknown == [0] else "if these pixels are to be ignored"
        found.append(Setting(when, _ignore([*ignored, *unknown])))
    second = flatten_values(values[1:2])
    if len(values) == 2 and len(unknown) == 1 and unknown[0] > max(second) and set(second) & set(present):
        when = f"if {unknown[0]} means the same as {second[0]}"
        found.append(Setting(when, _values([values[0], (*second, *unknown)])))
    if len(present) != len(values):
        names = ", which then need names in class_names" if has_class_names else ""
        found.append(Setting(f"if these are additional classes{names}", _values([*values, *unknown])))
    return found


def check_ignored_class(splits: Sequence[Statistics], values: Sequence[MaskValue]) -> list[Finding]:
    """Reports that 255, which is ignored by default, may be the value of a class.

    Args:
      splits: the statistics of all splits.
      values: the mask values of the classes, as `values_beside_255` returns them; nothing is reported without any.
    """
    if not values or any(split.num_classes != len(values) for split in splits):
        return []
    pixels = np.concatenate([split.counts for split in splits])
    if not pixels[:, -1].any():
        return []
    if not pixels[:, :-1].any(0).all():
        return _missing_class_finding(pixels.sum(0), values)
    return _other_second_class_finding(pixels > 0, values) if len(values) == 2 else []


def _missing_class_finding(pixels: np.ndarray, values: Sequence[MaskValue]) -> list[Finding]:
    """Reports classes that never occur beside ignored pixels, for the numbers of pixels int64[K + 1]."""
    present = [value for value, count in zip(values, pixels, strict=False) if count]
    if not present:
        return []  # Masks that are ignored altogether have an error of their own.
    text = (
        f"{pixels[-1] / pixels.sum():.2%} of all pixels are ignored, but {len(values) - len(present)} of {len(values)} "
        "classes have none: 255 is ignored unless it is the value of a class"
    )
    found = ", ".join(map(str, flatten_values(present)))
    names = "" if len(present) + 1 == len(values) else f"; the masks then have {len(present) + 1} classes to name"
    setting = Setting(f"if the masks contain {found} and 255{names}", _values([*present, IGNORE_LABEL]))
    return [Finding("warning" if len(present) == 1 else "note", text, (setting,))]


def _other_second_class_finding(occurs: np.ndarray, values: Sequence[MaskValue]) -> list[Finding]:
    """Reports that 255 may be the second class in some of the masks, for bool[N, 3], the classes that occur in each."""
    occurs = occurs[occurs[:, :2].any(1)]
    has_second, has_ignored = occurs[:, 1], occurs[:, 2]
    if (has_second & has_ignored).any() or min(has_second.sum(), has_ignored.sum()) < 2:
        return []
    text = (
        f"{has_second.sum()} masks contain the second class, {has_ignored.sum()} others ignored pixels, none both: 255 "
        "is ignored unless it is the value of a class"
    )
    merged = _values([values[0], (*flatten_values([values[1]]), IGNORE_LABEL)])
    return [Finding("warning", text, (Setting("if 255 is the second class in masks from another source", merged),))]


def check_inferred_values(
    values: Sequence[int], fractions: np.ndarray, ignored: Sequence[int], *, options: Collection[str]
) -> list[Finding]:
    """Reports that every value found in the masks became a class, with settings for values that are not classes.

    Args:
      values: the mask value of each class, ascending.
      fractions: float[K], the fraction of the valid pixels that each class covers.
      ignored: the mask values that are ignored already.
      options: names of the dataset's options that settings may suggest.
    """
    text = "values is not set, so every value found in the masks is a class: "
    rare = np.sort(fractions)[: -max(2, len(values) // 4)]
    if len(rare) >= _MIN_ARTIFACTS and rare.sum() < _MAX_ARTIFACT_FRACTION:
        text += f"{abbreviate([str(value) for value in values])}. {len(rare)} of them cover {rare.sum():.2%} of the "
        text += "pixels together, as in masks that were interpolated or saved as JPEG: export them again as PNG, "
        return [Finding("warning", text + "resized by nearest neighbor, or set the values of the classes")]
    highest, all_up_to_it = values[-1], tuple(values) == tuple(range(values[-1] + 1))
    settings = [Setting("if each of them is a class; this saves reading all masks at every start", _values(values))]
    if not ignored:
        settings.append(Setting(f"if {highest} is to be ignored", _ignore([highest])))
    if all_up_to_it:
        when = f"if 0 is background to be ignored, and the classes are 1 to {highest}"
        settings.append(Setting(when, _reduce_zero(highest, tuple(ignored), options)))
    shown = f"0 to {highest}" if all_up_to_it else abbreviate([str(value) for value in values])
    return [Finding("note", text + shown, tuple(settings))]


def _values(values: Sequence[MaskValue]) -> dict[str, Any]:
    return {"values": tuple(values)}


def _ignore(values: Sequence[int]) -> dict[str, Any]:
    return {"ignore_values": tuple(values)}


def _reduce_zero(classes: int, ignored: tuple[int, ...], options: Collection[str]) -> Mapping[str, Any]:
    """Returns the arguments that ignore mask value 0 and make classes of 1 to `classes`."""
    if "reduce_zero_label" in options:
        return {"reduce_zero_label": True}
    return _values(range(1, classes + 1)) | _ignore([*ignored, 0])
