"""What the facts of a dataset mean for training on it: errors, warnings, and settings to answer them with."""

import dataclasses
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from flaxseg.data.statistics import Statistics
from flaxseg.inspection.duplicates import alike, repeated, shared

_MOST_SHOWN = 10

_MOSTLY = 0.75
"""A class with more of the pixels than this is told apart from the rest by guessing it everywhere."""

_NARROW = 64
"""Wide pictures that use less than this of 0..255 have little contrast."""

_CLIPPED = 0.05
"""More values at 255 than this, or ten times as many at 0, were rather clipped than are as bright and dark."""

_UNEQUAL = 20
"""How many times the rarest class's pixels the most frequent may have before weights are suggested."""


Severity = Literal["error", "warning", "note"]


class Setting(NamedTuple):
    """Flags of a command line, and when they are the right ones."""

    when: str
    flags: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a user should know; an error means that the dataset cannot be trained on as it is."""

    severity: Severity
    text: str
    settings: tuple[Setting, ...] = ()


def flag(key: str, value: Any) -> str:
    """Returns `--config.KEY=VALUE` as it is typed into a shell; tuples without spaces, `'(0,255)'`."""
    text = value if isinstance(value, str) else repr(value).replace(", ", ",")
    return f"--config.{key}={shlex.quote(text)}"


def listed(texts: Sequence[str]) -> str:
    """Returns the first ten, and how many more there are."""
    more = len(texts) - _MOST_SHOWN
    return ", ".join(texts[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def of_problems(splits: Mapping[str, Statistics], *, skip_bad: int) -> list[Finding]:
    """Returns how many examples cannot be read, other than for mask values without a class.

    Args:
      splits: the facts of each split by what messages call it.
      skip_bad: how many unusable examples of all splits training passes over; no more than these are no error.
    """
    parts = []
    for split, statistics in splits.items():
        broken = sum(problem.unknown is None for problem in statistics.problems)
        if broken:
            parts.append(f"{broken} of {statistics.num_examples} {split} examples")
    if not parts:
        return []
    unusable = sum(len(statistics.problems) for statistics in splits.values())
    text = f"{' and '.join(parts)} cannot be decoded, or picture and mask do not fit"
    if unusable <= skip_bad:
        return [Finding("warning", f"{text}; training passes over them, as data.skip_bad = {skip_bad} allows")]
    text += "; repair each, or take both its files out of the dataset"
    if not all(statistics.ids for statistics in splits.values()):
        return [Finding("error", text)]
    return [Finding("error", text, (Setting("to train without them", flag("data.skip_bad", unusable)),))]


def of_split(split: str, statistics: Statistics, *, options: Collection[str]) -> list[Finding]:
    """Returns what is wrong within a split, apart from examples that cannot be used.

    Args:
      split: what messages call it.
      statistics: its facts.
      options: the options that the dataset's function takes; settings are of these alone.
    """
    found = []
    if statistics.num_examples == 0:
        found.append(Finding("error", f"{split}: has no examples; check data.dir and the split's name"))
    elif not statistics.ids:
        found.append(Finding("error", f"{split}: none of its {statistics.num_examples} examples can be used"))
    wide = int(statistics.wide.sum())
    if 0 < wide < len(statistics.ids):
        text = f"{wide} of {len(statistics.ids)} pictures have more than 8 bits a channel; save all with one bit depth"
        found.append(Finding("error", f"{split}: {text}"))
    kinds, numbers = np.unique(statistics.channels, return_counts=True)
    if len(kinds) > 1:
        text = ", ".join(f"{kind} ({number} pictures)" for kind, number in zip(kinds, numbers, strict=True))
        text = f"{split}: numbers of channels differ: {text}; convert the pictures to one"
        found.append(Finding("error", text, _one_number_of_channels(options, kinds)))
    empty = statistics.all_ignored
    if empty and len(empty) == len(statistics.ids):
        text = "every pixel of every mask is ignored, so there is nothing to learn or to score"
        found.append(Finding("error", f"{split}: {text}; check which mask values are classes"))
    elif empty:
        text = f"{len(empty)} of {len(statistics.ids)} masks are ignored as a whole and teach nothing"
        found.append(Finding("warning", f"{split}: {text}: {listed(empty)}"))
    # Of other turned pictures a mask over the raw pixels has another size, which reading them tells.
    fits_both = (statistics.sizes[:, 0] == statistics.sizes[:, 1]) | (statistics.orientations <= 4)
    turned = [statistics.ids[i] for i in np.flatnonzero((statistics.orientations > 1) & fits_both)]
    if turned:
        text = f"{len(turned)} pictures are turned or mirrored as their EXIF data say, which leaves their size"
        text += f": a mask drawn over the raw pixels would be read without an error, so look at {split}.png"
        found.append(Finding("warning", f"{split}: {text}: {listed(turned)}"))
    twice = repeated(statistics)
    if twice:
        extra = sum(map(len, twice)) - len(twice)
        text = f"{extra} picture(s) are there again, pixel for pixel: {listed([' = '.join(group) for group in twice])}"
        found.append(Finding("warning", f"{split}: {text}"))
    return found


def _one_number_of_channels(options: Collection[str], found: Iterable[int]) -> tuple[Setting, ...]:
    if "channels" not in options or not set(found) <= {1, 3}:
        return ()
    kinds = (("RGB", 3), ("gray", 1))
    return tuple(Setting(f"to read all as {kind}", flag("data.options.channels", number)) for kind, number in kinds)


def of_value_range(split: str, statistics: Statistics, value_range: Any, *, options: Collection[str]) -> list[Finding]:
    """Returns how the values of wide pictures fit the range that becomes 0..255.

    Args:
      split: what messages call it.
      statistics: its facts.
      value_range: the option of the dataset; None where it is not set.
      options: as in of_split().
    """
    if "value_range" not in options or not statistics.wide.any():
        return []
    low, high = statistics.value_range
    dark, bright = statistics.at_ends
    if bright > _CLIPPED or dark > 10 * _CLIPPED:
        text = (
            f"{dark:.2%} of the values are 0 and {bright:.2%} are 255, as all outside of data.options.value_range are"
        )
        return [Finding("warning", f"{split}: {text}; a wider range would tell them apart")]
    pair = np.asarray((0, 65535) if value_range is None else value_range, np.float64)
    if high - low >= _NARROW or pair.ndim > 1 or high <= low:
        return []
    stored = tuple(float(f"{pair[0] + end / 255 * (pair[1] - pair[0]):.6g}") for end in (low, high))
    becomes = f"of the 0..255 that {tuple(pair.tolist())!r} becomes"
    text = f"values are {low:.3g} to {high:.3g} {becomes}, which is little contrast"
    setting = Setting("to use the whole range", flag("data.options.value_range", stored))
    return [Finding("warning", f"{split}: {text}", (setting,))]


def of_sizes(split: str, statistics: Statistics, image_size: tuple[int, int]) -> list[Finding]:
    """Returns how the pictures of a split fit the size to which all of them are resized."""
    if not len(statistics.sizes):
        return []
    height, width = np.median(statistics.sizes, axis=0)
    pictures = f"{split}: half of the pictures are at least {height:.0f} high and {width:.0f} wide"
    canvas = f"data.image_size = {image_size}"
    smaller = np.all(statistics.sizes < image_size, axis=1)
    if smaller.mean() > 0.5:
        text = f"{smaller.sum()} of {len(smaller)} pictures are smaller than {canvas} and would be enlarged"
        setting = Setting("for as much detail in less time", flag("data.image_size", (round(height), round(width))))
        return [Finding("note", f"{split}: {text}", (setting,))]
    found = []
    shrink = min(height / image_size[0], width / image_size[1])
    if shrink > 2:
        text = f"{canvas} shrinks them {shrink:.1f} times, and what is finer than that is lost"
        found.append(Finding("note", f"{pictures}; {text}; a larger one keeps more, and takes more time and memory"))
    stretch = (height / width) / (image_size[0] / image_size[1])
    if not 2 / 3 <= stretch <= 1.5:
        size = (
            round(np.sqrt(np.prod(image_size) * height / width)),
            round(np.sqrt(np.prod(image_size) * width / height)),
        )
        text = f"{pictures}; {canvas} has other proportions and distorts them {max(stretch, 1 / stretch):.1f} times"
        found.append(Finding("note", text, (Setting("for their own proportions", flag("data.image_size", size)),)))
    return found


def of_classes(train: Statistics, evaluation: Statistics, class_names: Sequence[str]) -> list[Finding]:
    """Returns which classes are missing where."""
    taught = train.occurrences > 0
    asked = evaluation.occurrences > 0
    found = []
    for missing, text in (
        (asked & ~taught, "occur in eval but never in train, so nothing teaches them"),
        (~asked & ~taught, "never occur"),
        (~asked & taught, "never occur in eval, so no score tells how well they are learnt"),
    ):
        names = [name for name, is_missing in zip(class_names, missing, strict=True) if is_missing]
        if names:
            found.append(Finding("warning", f"{len(names)} of {len(class_names)} classes {text}: {listed(names)}"))
    return found


def of_balance(train: Statistics, class_names: Sequence[str]) -> list[Finding]:
    """Returns whether few classes have most of the pixels."""
    shares = train.shares
    present = shares[shares > 0]
    if len(present) < 2 or (present.max() < _MOSTLY and present.max() < _UNEQUAL * present.min()):
        return []
    rarest = int(np.argmin(np.where(shares > 0, shares, 2)))
    text = (
        f"train: class {class_names[int(np.argmax(shares))]} has {shares.max():.2%} of the pixels and "
        f"{class_names[rarest]} {shares[rarest]:.2%}; what is seldom seen is learnt late, which class weights change"
    )
    return [Finding("note", text)]


def of_channels(train: Statistics, evaluation: Statistics, *, options: Collection[str]) -> list[Finding]:
    """Returns whether the pictures of evaluation have other channels than those of training."""
    there, here = (", ".join(map(str, np.unique(split.channels))) for split in (train, evaluation))
    if there == here:
        return []
    kinds = {*train.channels.tolist(), *evaluation.channels.tolist()}
    text = f"pictures have {there} channels in train and {here} in eval; a network takes one number of them"
    return [Finding("error", f"{text}: convert the pictures to one", _one_number_of_channels(options, kinds))]


def of_duplicates(train: Statistics, evaluation: Statistics) -> list[Finding]:
    """Returns which pictures of evaluation are those of training."""
    found = []
    both = shared(train, evaluation)
    if both:
        text = listed([f"{here} (train: {there})" for there, here in both])
        what = f"{len(both)} of {len(evaluation.ids)} eval pictures are in train too, pixel for pixel"
        found.append(Finding("warning", f"{what}, which makes the scores better than they are: {text}"))
    near = alike(train, evaluation)
    if near:
        text = listed([f"{here} (train: {there})" for there, here in near])
        what = f"{len(near)} eval pictures look like one of train, as scaled copies and frames of one film do"
        found.append(Finding("note", f"{what} (a guess, by difference hashes): {text}"))
    return found
