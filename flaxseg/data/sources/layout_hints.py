"""Suggestions where files are not in the layout described: options of `folder`, and a line that an error ends with."""

import collections
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flaxseg.data.sources.image_files import SUFFIXES, list_image_files
from flaxseg.data.sources.split_lists import SPLIT, find_split_lists

Hint = tuple[str, dict[str, Any]]
"""A line that an error ends with, and the options of `folder` that it suggests."""

NO_HINT: Hint = "", {}
ONLY_PAIRS_HINT: Hint = (
    "\nTo skip files without a counterpart, use folder(only_pairs=True)",
    {"only_pairs": True},
)

_IMAGES = "image|img|photo|picture|jpe?g"
_MASKS = "mask|label|annot|truth|^gt|segm"
_OTHER_MASKS = "object|instance|visual|color|npy"
"""Parts of the names of folders that tools write beside that of the masks."""


def root_hint(root: str, images: str, masks: str, split_list: str) -> Hint:
    """Returns what the folder of a dataset is if it has neither images nor masks where they should be.

    Args:
      root: the folder of the dataset.
      images: the folder of the images below it.
      masks: the folder of the masks below it.
      split_list: the list of a split; "" for none.
    """
    above = os.path.dirname(os.path.abspath(root))
    if SPLIT not in images + masks and all(os.path.isdir(os.path.join(above, folder)) for folder in (images, masks)):
        return f"\nThe folder above it, {above}, contains {images} and {masks}: give that one", {}
    if options := _named_folders(root):
        options |= {"split_list": lists} if not split_list and (lists := find_split_lists(root)) else {}
        folders = f"{options['images']} and {options['masks']}"
        return f"\nThe folders may be {folders}: use folder({_arguments(options)})", options
    stems = {os.path.splitext(name)[0] for name in os.listdir(root) if name.lower().endswith(SUFFIXES)}
    suffixes = collections.Counter(
        stem[len(first) :] for first in stems for stem in stems if stem != first and stem.startswith(first)
    )
    suffix, count = next(iter(suffixes.most_common(1)), ("", 0))
    if 2 * count < len(stems) or not suffix:
        return NO_HINT
    options = {"images": ".", "masks": ".", "mask_suffix": suffix}
    return f"\nImages and masks seem to lie side by side in {root}: use folder({_arguments(options)})", options


def suffix_hint(images: Iterable[str], masks: Iterable[str]) -> Hint:
    """Returns the option that would pair the files, if all names of one kind have a suffix after those of the other."""
    kinds = ("mask_suffix", set(images), set(masks)), ("image_suffix", set(masks), set(images))
    for option, shorter, longer in kinds:
        first = min(shorter)
        for name in sorted(longer):
            suffix = name.removeprefix(first)
            if name.startswith(first) and suffix and "/" not in suffix and {s + suffix for s in shorter} <= longer:
                return f"\nEvery file has a counterpart with {option}={suffix!r}", {option: suffix}
    return NO_HINT


def list_hint(root: str, split_list: str, split: str) -> Hint:
    """Returns the option that names an existing list, if a split's list does not exist, but does with `.txt`."""
    path = os.path.join(root, split_list.replace(SPLIT, split))
    if not split_list or os.path.exists(path) or not os.path.isfile(f"{path}.txt"):
        return NO_HINT
    options = {"split_list": f"{split_list}.txt"}
    return f"\nThe list {path}.txt exists: add .txt, as in folder({_arguments(options)})", options


def _arguments(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _named_folders(root: str) -> dict[str, Any]:
    """Returns the options that name the folders of images and masks, if exactly one with images is named like each."""
    is_named = re.compile(f"{_MASKS}|{_IMAGES}", re.IGNORECASE)
    named = [entry for entry in os.scandir(root) if entry.is_dir() and is_named.search(entry.name)]
    # ImageSets, for example, contains lists.
    folders = [entry.name for entry in named if list_image_files(entry.path)]
    masks = [name for name in folders if re.search(_MASKS, name.lower())]
    images = [name for name in folders if name not in masks]
    if len(masks) > 1:
        masks = [name for name in masks if not re.search(_OTHER_MASKS, name.lower())]
    return {"images": images[0], "masks": masks[0]} if len(images) == len(masks) == 1 else {}
