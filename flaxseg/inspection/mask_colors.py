"""A check of colored masks: colors without a class."""

from collections import Counter
from collections.abc import Collection, Sequence

from flaxseg.data.masks.class_colors import Color
from flaxseg.data.statistics import Statistics
from flaxseg.errors import UnknownColors
from flaxseg.inspection.findings import Finding, Setting, abbreviate
from flaxseg.inspection.mask_values import MAX_FORGOTTEN_CLASSES, severity_of_unusable


def check_unknown_colors(splits: Sequence[Statistics], *, options: Collection[str], skip_bad: int = 0) -> list[Finding]:
    """Reports mask colors that belong to no class, with the settings that may repair them.

    Args:
      splits: the statistics of all splits.
      options: names of the dataset's options that settings may suggest.
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
    text = f"{len(errors)} masks contain {len(unknown)} color(s) that belong to no class: {shown}. "
    if len(unknown) > MAX_FORGOTTEN_CLASSES:
        text += "So many colors come from masks that were interpolated or saved as JPEG: export them again as PNG"
        return [Finding(severity, text)]
    if "colors" not in options:
        text += "Masks of this dataset contain class numbers: check that these are its own masks, or read them with "
        return [Finding(severity, text + "the dataset 'folder'")]
    colors, ignored = errors[0].colors, errors[0].ignore_colors
    when = "if these are additional classes" if colors else "if each of them is a class"
    settings = [Setting(when, {"colors": (*colors, *sorted(unknown))})]
    if colors:
        settings.append(Setting("if these pixels are to be ignored", {"ignore_colors": (*ignored, *unknown)}))
    return [Finding(severity, text + "One of these settings may be right:", tuple(settings))]
