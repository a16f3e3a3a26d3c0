"""Which picture files and mask files of a folder belong together, and which of them form a split."""

import dataclasses
import glob
import hashlib
import os
from collections.abc import Iterable, Sequence

from flaxseg.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".npy")
_SPLIT = "{split}"
_MOST_SHOWN = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A picture file and its mask file; `stem` is what their names have in common."""

    stem: str
    image: str
    mask: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a data set keeps its files; the paths are relative to `root` and may contain `{split}`.

    Attributes:
      root: the data set's folder.
      images: folder of the pictures.
      masks: folder of the masks.
      split_list: text file with one stem in the first column of each line; "" for none.
      image_suffix: what follows the common stem in a picture's name, before the extension.
      mask_suffix: the same for a mask; files without it are left aside.
    """

    root: str
    images: str
    masks: str
    split_list: str = ""
    image_suffix: str = ""
    mask_suffix: str = ""

    @property
    def names_splits(self) -> bool:
        """Whether the files say what belongs to which split."""
        return any(_SPLIT in path for path in (self.images, self.masks, self.split_list))

    def path(self, template: str, split: str) -> str:
        """The whole path of one of the folders or lists above, for `split`."""
        return os.path.join(self.root, template.replace(_SPLIT, split))

    def splits(self) -> list[str]:
        """The split names for which every folder and list is there."""
        templates = [path for path in (self.split_list, self.images, self.masks) if _SPLIT in path]
        before, after = os.path.join(self.root, templates[0]).split(_SPLIT, 1)
        after = after.partition("/")[0]
        found = glob.glob(f"{glob.escape(before)}*{glob.escape(after)}")
        names = {path[len(before) : len(path) - len(after)] for path in found} - {""}
        return sorted(name for name in names if all(os.path.exists(self.path(path, name)) for path in templates))

    def pairs(self, split: str) -> list[Pair]:
        """All pairs that the files give for `split`, sorted by stem, so that a seed means one order of training.

        Raises:
          DataError: folders or files that are missing or do not match; up to ten of the problems, and their number.
        """
        image_dir, mask_dir = self.path(self.images, split), self.path(self.masks, split)
        problems: list[str] = []
        # In one folder for both, what ends as masks do is no picture.
        not_suffix = self.mask_suffix if image_dir == mask_dir else ""
        images = _files_by_stem(image_dir, self.image_suffix, problems, not_suffix=not_suffix)
        masks = _files_by_stem(mask_dir, self.mask_suffix, problems)
        if self.split_list and not problems:
            stems = _listed_stems(self.path(self.split_list, split), images, masks, problems)
        else:
            stems = sorted(images)
            # One mask folder for several picture folders holds masks of the other splits too.
            shared = (_SPLIT in self.images) != (_SPLIT in self.masks)
            if images and masks:
                problems += [f"the picture {images[s]} has no mask in {mask_dir}" for s in stems if s not in masks]
                extra = sorted(set(masks) - set(images))
                problems += [] if shared else [f"the mask {masks[s]} has no picture in {image_dir}" for s in extra]
        self._raise_if_any(problems, split)
        return [Pair(s, os.path.join(image_dir, images[s]), os.path.join(mask_dir, masks[s])) for s in stems]

    def all_masks(self) -> list[str]:
        """The mask files of every split, so that what is read off them is the same for each."""
        splits = self.splits() if _SPLIT in self.masks else [""]
        folders = [self.path(self.masks, split) for split in splits]
        return [os.path.join(folder, file) for folder in folders for file in _scan(folder, self.mask_suffix)]

    def _raise_if_any(self, problems: Sequence[str], split: str) -> None:
        if not problems:
            return
        lines = [f"\n  {problem}" for problem in problems[:_MOST_SHOWN]]
        rest = len(problems) - _MOST_SHOWN
        more = f"\n  and {rest} more" if rest > 0 else ""
        known = f"; there is {', '.join(self.splits()) or 'none'}" if self.names_splits else ""
        raise DataError(
            f"the data set in {self.root} (split {split!r}{known}) has {len(problems)} problem(s):"
            f"{''.join(lines)}{more}\n"
            f"Pictures and masks belong together by their path without extension below {self.images!r} and "
            f"{self.masks!r} (which data.options.images and data.options.masks set for the data set folder); "
            f"extensions: {' '.join(SUFFIXES)}"
        )


def seeded_part(stems: Iterable[str], *, fraction: float, seed: int) -> set[str]:
    """`fraction` of the stems, chosen by a hash of each: the order given does not matter, new files hardly do.

    At least one is chosen and at least one left, where there are two or more and the fraction is neither 0 nor 1.
    """
    ranked = sorted(stems, key=lambda stem: hashlib.blake2b(f"{seed} {stem}".encode(), digest_size=8).digest())
    number = round(fraction * len(ranked))
    if 0 < fraction < 1 and len(ranked) > 1:
        number = min(max(number, 1), len(ranked) - 1)
    return set(ranked[:number])


def _scan(folder: str, suffix: str = "") -> list[str]:
    """Paths below `folder` of all picture files whose stem ends in `suffix`. Hidden files are left aside."""
    found, pending, seen = [], [""], set()
    while pending:
        below = pending.pop()
        # A link back to a folder above would go round for ever.
        place = os.path.realpath(os.path.join(folder, below))
        if place in seen:
            continue
        seen.add(place)
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                path = os.path.join(below, entry.name)
                stem, extension = os.path.splitext(entry.name)
                if entry.name.startswith("."):
                    continue
                if extension.lower() in SUFFIXES and stem.endswith(suffix):
                    found.append(path)
                elif entry.is_dir():
                    pending.append(path)
    return found


def _files_by_stem(folder: str, suffix: str, problems: list[str], *, not_suffix: str = "") -> dict[str, str]:
    """Stem to path below `folder`; what is wrong is added to `problems`."""
    if not os.path.isdir(folder):
        problems.append(f"the folder {folder} does not exist")
        return {}
    by_stem: dict[str, str] = {}
    for path in sorted(_scan(folder, suffix)):
        name = os.path.splitext(path)[0]
        if not_suffix and name.endswith(not_suffix):
            continue
        stem = name.removesuffix(suffix).replace(os.sep, "/")
        if stem in by_stem:
            problems.append(f"{by_stem[stem]} and {path} in {folder} have one stem: keep one of them")
        by_stem[stem] = path
    if not by_stem:
        problems.append(f"the folder {folder} holds no pictures" + (f" named *{suffix}.*" if suffix else ""))
    return by_stem


def _listed_stems(path: str, images: dict[str, str], masks: dict[str, str], problems: list[str]) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"the list {path} cannot be read ({error})")
        return []
    stems = list(dict.fromkeys(line[0] for line in lines if line and not line[0].startswith("#")))
    if not stems:
        problems.append(f"the list {path} names no pictures")
    for stem in stems:
        missing = [what for what, known in (("picture", images), ("mask", masks)) if stem not in known]
        if missing:
            problems.append(f"{stem}, listed in {path}, has no {' and no '.join(missing)}")
    return sorted(stems)
