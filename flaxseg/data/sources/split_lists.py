"""Reads text files that list the images of a split, and draws splits by a seed."""

import hashlib
import os
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from flaxseg.data.decode.limits import check_regular
from flaxseg.data.sources.image_files import SUFFIXES

SPLIT = "{split}"
"""The part of a path that stands for the name of the split."""

EVALUATION_SPLITS = ("val", "valid", "validation", "dev", "test")
"""The usual names of splits to evaluate on, the most suitable during a training first."""

_USUAL_LISTS = ("", "ImageSets/Segmentation/", "ImageSets/", "splits/", "lists/", "annotations/")
"""Where the lists train.txt and val.txt of a dataset usually are."""


def find_split_lists(root: str, split_list: str = "") -> str:
    """Returns the path, with `{split}`, of lists for both `train` and `val` that exist; "" if there are none.

    Args:
      root: the folder of the dataset.
      split_list: a list of one split: only the list beside it that is named after the other split is searched for. ""
        searches where such lists usually are.
    """
    candidates = [f"{place}{SPLIT}.txt" for place in _USUAL_LISTS]
    if split_list:
        place, name = os.path.split(split_list)
        candidates = [os.path.join(place, name.replace(split, SPLIT, 1)) for split in ("train", "val") if split in name]
    for path in candidates:
        if all(os.path.isfile(os.path.join(root, path.replace(SPLIT, split))) for split in ("train", "val")):
            return path
    return ""


def read_split_list(
    path: str, known: Collection[str], folders: Sequence[str], suffixes: Sequence[str], problems: list[str]
) -> list[str]:
    """Returns the stems that a text file lists, sorted.

    Args:
      path: the file, with an image on each line: its stem or the path of its file, as the whole line or as the first
        column. Blank lines and lines that start with # are skipped.
      known: the stems that exist.
      folders: folders that paths in the file may start with.
      suffixes: endings that names in the file may have after the stem.
      problems: a description of each problem is appended to this list.
    """
    try:
        check_regular(path)
        # Windows editors write a byte order mark before the text, which this encoding skips.
        with open(path, encoding="utf-8-sig") as file:
            lines = [unicodedata.normalize("NFC", line.strip()) for line in file]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"the list {path} cannot be read ({error})")
        return []
    stems = {_find_stem(line, known, folders, suffixes) for line in lines if line and line[0] != "#"}
    if not stems:
        problems.append(f"the list {path} names no images")
    return sorted(stems)


def choose_fraction(stems: Iterable[str], *, fraction: float, seed: int) -> set[str]:
    """Chooses a fraction of the stems by a hash of each one, identically on every machine.

    The choice does not depend on the order of the stems, and additional stems hardly change it. If there are two stems
    or more and the fraction is neither 0 nor 1, at least one stem is chosen and at least one is not.

    Args:
      stems: the stems to choose from.
      fraction: the fraction to choose, 0..1.
      seed: seed of the hash.
    """
    ranked = sorted(stems, key=lambda stem: hashlib.blake2b(f"{seed} {stem}".encode(), digest_size=8).digest())
    number = round(fraction * len(ranked))
    if 0 < fraction < 1 and len(ranked) > 1:
        number = min(max(number, 1), len(ranked) - 1)
    return set(ranked[:number])


def _find_stem(line: str, known: Collection[str], folders: Sequence[str], suffixes: Sequence[str]) -> str:
    for text in (line.lstrip("/"), line.split()[0].lstrip("/")):
        bare, extension = os.path.splitext(text)
        for name in (text, bare) if extension.lower() in SUFFIXES else (text,):
            below = [name, *(name.removeprefix(f"{folder}/") for folder in folders)]
            for stem in [*below, *(stem.removesuffix(suffix) for suffix in suffixes for stem in below)]:
                if stem in known:
                    return stem
    return line.split()[0]
