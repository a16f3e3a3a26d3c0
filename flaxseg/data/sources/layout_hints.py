"""Suggestions where files are not in the layout described: options of `folder`, and a sentence for an error."""

import collections
import glob
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flaxseg.data.sources.image_files import SUFFIXES, list_image_files
from flaxseg.data.sources.split_lists import EVALUATION_SPLITS, SPLIT, find_split_lists

Hint = tuple[str, dict[str, Any]]
"""A sentence of an error, without its period, and the options of `folder` that it suggests."""

NO_HINT: Hint = "", {}
ONLY_PAIRS_HINT: Hint = (
    "To skip files without a counterpart, use folder(only_pairs=True)",
    {"only_pairs": True},
)

_IMAGES = "image|img|photo|picture|jpe?g"
_MASKS = r"mask|label|annot|truth|\bgt|_gt|segm"
_OTHER_MASKS = "object|instance|visual|color|npy"
"""Parts of the names of folders that tools write beside that of the masks."""

_TRAIN = "train"


def root_hint(root: str, images: str, masks: str, split_list: str) -> Hint:
    """Returns where the files of a dataset are if it has no images or no masks where they should be.

    Args:
      root: the folder of the dataset.
      images: the folder of the images below it.
      masks: the folder of the masks below it.
      split_list: the list of a split; "" for none.
    """
    above = os.path.dirname(os.path.abspath(root))
    is_given = os.path.isdir(os.path.join(root, images))
    in_above = not is_given and all(os.path.isdir(os.path.join(above, folder)) for folder in (images, masks))
    if in_above and SPLIT not in images + masks:
        return f"The folder above it, {above}, contains {images} and {masks}: give that one", {}
    if options := _with_suffix(root, _split_folders(root)) or _with_suffix(root, _named_folders(root)):
        found = options["images"], options["masks"]
        if found == (images, masks):
            return NO_HINT
        if not split_list and SPLIT not in found[0] and (lists := find_split_lists(root)):
            options["split_list"] = lists
        return f"The folders may be {' and '.join(found)}: use folder({arguments_text(options)})", options
    stems = {os.path.splitext(name)[0] for name in os.listdir(root) if name.lower().endswith(SUFFIXES)}
    suffixes = collections.Counter(
        stem[len(first) :] for first in stems for stem in stems if stem != first and stem.startswith(first)
    )
    suffix, count = next(iter(suffixes.most_common(1)), ("", 0))
    if 2 * count < len(stems) or not suffix:
        return NO_HINT
    options = {"images": ".", "masks": ".", "mask_suffix": suffix}
    return f"Images and masks seem to lie side by side in {root}: use folder({arguments_text(options)})", options


def suffix_hint(images: Iterable[str], masks: Iterable[str]) -> Hint:
    """Returns the option that would pair the files, if all names of one kind have a suffix after those of the other."""
    kinds = ("mask_suffix", set(images), set(masks)), ("image_suffix", set(masks), set(images))
    for option, shorter, longer in kinds:
        first = min(shorter)
        for name in sorted(longer):
            suffix = name.removeprefix(first)
            if name.startswith(first) and suffix and "/" not in suffix and {s + suffix for s in shorter} <= longer:
                return f"Every file has a counterpart with {option}={suffix!r}", {option: suffix}
    return NO_HINT


def list_hint(root: str, split_list: str, split: str) -> Hint:
    """Returns the option that names an existing list, if a split's list does not exist, but does with `.txt`."""
    path = os.path.join(root, split_list.replace(SPLIT, split))
    if not split_list or os.path.exists(path) or not os.path.isfile(f"{path}.txt"):
        return NO_HINT
    options = {"split_list": f"{split_list}.txt"}
    return f"The list {path}.txt exists: add .txt, as in folder({arguments_text(options)})", options


def arguments_text(options: Mapping[str, Any]) -> str:
    """Returns options as the arguments of a call in Python: `images='{split}', masks='{split}annot'`."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _split_folders(root: str) -> dict[str, Any]:
    """Returns the options that name the folders of images and masks of each split, such as train/ and train_labels/.

    They are searched below `root` and one level deeper, as images/train/ or train/images/. If only `train` has both,
    the options name its two folders.
    """
    for pattern in ("*", os.path.join("*", "*")):
        paths = glob.glob(os.path.join(glob.escape(root), pattern, ""))
        names = sorted(os.path.relpath(path, root) for path in paths)
        found = _one_of_each([name for name in names if _TRAIN in name and list_image_files(os.path.join(root, name))])
        options = {kind: name.replace(_TRAIN, SPLIT) for kind, name in found.items()}
        for split in EVALUATION_SPLITS if options else ():
            if all(path.replace(SPLIT, split) in names for path in options.values()):
                return options
        if found:
            return found
    return {}


def _named_folders(root: str) -> dict[str, Any]:
    """Returns the options that name the folders of images and masks, if exactly one with images is named like each."""
    is_named = re.compile(f"{_MASKS}|{_IMAGES}", re.IGNORECASE)
    named = [entry for entry in os.scandir(root) if entry.is_dir() and is_named.search(entry.name)]
    # ImageSets, for example, contains lists.
    return _one_of_each([entry.name for entry in named if list_image_files(entry.path)])


def _one_of_each(folders: Iterable[str]) -> dict[str, Any]:
    """Returns the options that name the two folders, if exactly one is named like that of masks, and one is not."""
    masks = [name for name in folders if re.search(_MASKS, name.lower())]
    images = [name for name in folders if name not in masks]
    if len(masks) > 1:
        masks = [name for name in masks if not re.search(_OTHER_MASKS, name.lower())]
    return {"images": images[0], "masks": masks[0]} if len(images) == len(masks) == 1 else {}


def _with_suffix(root: str, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of two folders with the suffix that pairs their files; {} if their subfolders differ."""
    if not options:
        return {}
    paths = [os.path.join(root, options[kind].replace(SPLIT, _TRAIN)) for kind in ("images", "masks")]
    images, masks = ({os.path.splitext(file)[0] for file in list_image_files(path)} for path in paths)
    has_common = {os.path.dirname(stem) for stem in images} & {os.path.dirname(stem) for stem in masks}
    return options | suffix_hint(images, masks)[1] if has_common else {}
