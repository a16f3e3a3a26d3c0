"""Checks of one split: its examples, channels, masks, orientations, value range and image sizes."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from flaxseg.data.statistics import Statistics
from flaxseg.errors import number_of
from flaxseg.inspection.duplicates import duplicate_groups
from flaxseg.inspection.findings import Finding, Setting, abbreviate

_LOW_CONTRAST = 64
"""Images of more than 8 bits whose values span less than this, within 0..255, have low contrast."""

_CLIPPED = 0.05
"""A larger fraction of values at 255, or ten times as many at 0, means that values were clipped."""


def check_unreadable(splits: Mapping[str, Statistics], *, skip_bad: int) -> list[Finding]:
    """Reports how many examples cannot be read for reasons other than mask values or colors without a class.

    Args:
      splits: the statistics of each split, by the name that messages use.
      skip_bad: the number of unusable examples that training tolerates, in all splits together.
    """
    parts = []
    for split, statistics in splits.items():
        broken = sum(problem.unknown is None for problem in statistics.problems)
        if broken:
            parts.append(f"{broken} of {number_of(statistics.num_examples, f'{split} example')}")
    if not parts:
        return []
    unusable = sum(len(statistics.problems) for statistics in splits.values())
    text = f"{' and '.join(parts)} cannot be decoded, or their image and mask do not match"
    if unusable <= skip_bad:
        return [Finding("warning", f"{text}; training skips them, as skip_bad = {skip_bad} allows")]
    text += "; repair each, or remove both its files from the dataset. They are listed under unusable examples"
    if not all(statistics.ids for statistics in splits.values()):
        return [Finding("error", text)]
    when = f"to train without the {number_of(unusable, 'unusable example')}"
    return [Finding("error", text, (Setting(when, {"skip_bad": unusable}),))]


def check_split(split: str, statistics: Statistics, *, options: Collection[str]) -> list[Finding]:
    """Reports what is wrong within a split, apart from examples that cannot be used.

    Args:
      split: the name that messages use.
      statistics: the statistics of the split.
      options: names of the dataset's options that settings may suggest.
    """
    return [
        *_check_examples(split, statistics),
        *_check_bit_depth(split, statistics),
        *_check_channels(split, statistics, options),
        *_check_ignored_masks(split, statistics),
        *_check_orientations(split, statistics),
        *_check_duplicates(split, statistics),
    ]


def _check_examples(split: str, statistics: Statistics) -> list[Finding]:
    if statistics.num_examples == 0:
        return [Finding("error", f"{split}: has no examples; check the dataset's directory and the split's name")]
    if not statistics.ids:
        return [Finding("error", f"{split}: none of its {statistics.num_examples} examples can be used")]
    return []


def _check_bit_depth(split: str, statistics: Statistics) -> list[Finding]:
    wide = int(statistics.is_float.sum())
    if not 0 < wide < len(statistics.ids):
        return []
    text = f"{wide} of {len(statistics.ids)} images have more than 8 bits per channel; save all with the same bit depth"
    return [Finding("error", f"{split}: {text}")]


def _check_channels(split: str, statistics: Statistics, options: Collection[str]) -> list[Finding]:
    kinds, numbers = np.unique(statistics.channels, return_counts=True)
    if len(kinds) <= 1:
        return []
    listing = ", ".join(f"{kind} ({number} images)" for kind, number in zip(kinds, numbers, strict=True))
    text = f"{split}: the number of channels differs: {listing}; convert the images to one number"
    return [Finding("error", text, channel_settings(options, kinds))]


def channel_settings(options: Collection[str], found: Iterable[int]) -> tuple[Setting, ...]:
    """Returns the settings that read all images with one number of channels, if the dataset can convert them.

    Args:
      options: names of the dataset's options that settings may suggest.
      found: the numbers of channels that the images have.
    """
    if "channels" not in options or not set(found) <= {1, 3}:
        return ()
    return tuple(Setting(f"to read all as {kind}", {"channels": n}) for kind, n in (("RGB", 3), ("gray", 1)))


def _check_ignored_masks(split: str, statistics: Statistics) -> list[Finding]:
    ignored = statistics.all_ignored
    if ignored and len(ignored) == len(statistics.ids):
        text = "every pixel of every mask is ignored, so there is nothing to learn or to evaluate"
        return [Finding("error", f"{split}: {text}; check which mask values are classes")]
    if ignored:
        text = f"{len(ignored)} of {len(statistics.ids)} masks are fully ignored and contribute nothing"
        return [Finding("warning", f"{split}: {text}: {abbreviate(ignored)}")]
    return []


def _check_orientations(split: str, statistics: Statistics) -> list[Finding]:
    # Orientations 5 to 8 swap height and width: a mask over the stored pixels of such an image has the wrong size,
    # which is an error when it is read, unless the image is square.
    keeps_size = (statistics.sizes[:, 0] == statistics.sizes[:, 1]) | (statistics.orientations <= 4)
    ids = [statistics.ids[i] for i in np.flatnonzero((statistics.orientations > 1) & keeps_size)]
    if not ids:
        return []
    text = (
        f"{len(ids)} images are rotated or mirrored by their EXIF orientation without a change of size: a mask drawn "
        f"over the stored pixels would be read without an error, so check the labels in {split}.png"
    )
    return [Finding("warning", f"{split}: {text}: {abbreviate(ids)}")]


def _check_duplicates(split: str, statistics: Statistics) -> list[Finding]:
    groups = duplicate_groups(statistics)
    if not groups:
        return []
    extra = sum(map(len, groups)) - len(groups)
    listing = abbreviate([" = ".join(group) for group in groups])
    repeated = "1 image repeats" if extra == 1 else f"{extra} images repeat"
    return [Finding("warning", f"{split}: {repeated} another, pixel for pixel: {listing}")]


def check_value_range(splits: Mapping[str, Statistics], value_range: Any, *, options: Collection[str]) -> list[Finding]:
    """Reports clipping and low contrast of images with more than 8 bits per channel.

    Args:
      splits: the statistics of each split, by the name that messages use; one range is suggested for all of them.
      value_range: the dataset's option: the stored values that become 0 and 255, for all channels or for each; None
        where it is not set.
      options: names of the dataset's options that settings may suggest.
    """
    wide = {name: split for name, split in splits.items() if split.is_float.any()}
    if "value_range" not in options or not wide:
        return []
    found = []
    for name, split in wide.items():
        dark, bright = split.clipped_fractions
        if bright > _CLIPPED or dark > 10 * _CLIPPED:
            text = f"{dark:.2%} of the values are 0 and {bright:.2%} are 255, the ends to which value_range clips"
            found.append(Finding("warning", f"{name}: {text}; a wider range would preserve more"))
    if found:
        return found
    ranges = [split.value_range for split in wide.values()]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    ends = np.asarray((0, 65535) if value_range is None else value_range, np.float64)
    if high - low >= _LOW_CONTRAST or ends.ndim > 1 or high <= low:
        return []
    stored = tuple(float(f"{ends[0] + end / 255 * (ends[1] - ends[0]):.6g}") for end in (low, high))
    text = f"value_range = {tuple(ends.tolist())!r} becomes 0..255, and the images use only {low:.3g} to {high:.3g}"
    setting = Setting("to use the whole range", {"value_range": stored})
    return [Finding("warning", f"{' and '.join(wide)}: {text} of it, so their contrast is low", (setting,))]


def check_image_size(split: str, statistics: Statistics, image_size: tuple[int, int]) -> list[Finding]:
    """Reports how resizing to one size enlarges, shrinks or distorts the images of a split.

    Args:
      split: the name that messages use.
      statistics: the statistics of the split.
      image_size: the (height, width) to which images are resized.
    """
    if not len(statistics.sizes):
        return []
    height, width = np.median(statistics.sizes, axis=0)
    images = f"{split}: the median size of the images is {height:.0f}x{width:.0f} (height x width)"
    target = f"image_size = {image_size}"
    smaller = np.all(statistics.sizes < image_size, axis=1)
    if smaller.mean() > 0.5:
        text = f"{smaller.sum()} of {len(smaller)} images are smaller than {target} and would be enlarged"
        setting = Setting("for the same detail in less time", {"image_size": (round(height), round(width))})
        return [Finding("note", f"{split}: {text}", (setting,))]
    found = []
    shrink = min(height / image_size[0], width / image_size[1])
    if shrink > 2:
        text = f"{target} shrinks them {shrink:.1f} times and loses finer detail"
        text = f"{images}; {text}; a larger one keeps more, and takes more time and memory"
        found.append(Finding("note", text, (Setting("for all detail, on crops of that size", {"resize": "keep"}),)))
    stretch = (height / width) / (image_size[0] / image_size[1])
    if not 2 / 3 <= stretch <= 1.5:
        size = (
            round(np.sqrt(np.prod(image_size) * height / width)),
            round(np.sqrt(np.prod(image_size) * width / height)),
        )
        text = f"{images}; {target} has another aspect ratio and distorts them {max(stretch, 1 / stretch):.1f} times"
        found.append(Finding("note", text, (Setting("to keep their aspect ratio", {"image_size": size}),)))
    return found
