"""Which picture files and mask files of a folder belong together, and which of them form a split."""

import dataclasses
import glob
import hashlib
import os
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from flaxseg.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".npy")
_SPLIT = "{split}"
_MOST_SHOWN = 10
_ONLY_PAIRS = "\nTo leave aside what has no counterpart, the dataset folder has --config.data.options.only_pairs=True"


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A picture file and its mask file; `stem` is what their names have in common."""

    stem: str
    image: str
    mask: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a dataset keeps its files; the paths are relative to `root` and may contain `{split}`.

    Attributes:
      root: the dataset's folder.
      images: folder of the pictures.
      masks: folder of the masks.
      split_list: text file with the stem or the path of a picture on each line; "" for none.
      image_suffix: what follows the common stem in a picture's name, before the extension.
      mask_suffix: the same for a mask; files without it are left aside.
      only_pairs: pictures without a mask, masks without a picture, and lines of a list that name such, are left aside.
    """

    root: str
    images: str
    masks: str
    split_list: str = ""
    image_suffix: str = ""
    mask_suffix: str = ""
    only_pairs: bool = False

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
        there = images, masks = self._files(image_dir, mask_dir, problems)
        if self.only_pairs and not problems:
            images, masks = _common(images, masks)
            problems += [] if images else [f"no picture in {image_dir} has a mask in {mask_dir}"]
        if self.split_list and not problems:
            path, folders = self.path(self.split_list, split), (self.images, self.masks)
            suffixes = self.image_suffix, self.mask_suffix
            stems = _listed_stems(path, images.keys() | masks.keys(), folders, suffixes, problems)
            if self.only_pairs:
                stems = [stem for stem in stems if stem in images]
                problems += [] if stems or problems else [f"nothing in the list {path} has a picture and a mask"]
            else:
                problems += _missing(stems, images, masks, path)
        else:
            stems = sorted(images)
            # One mask folder for several picture folders holds masks of the other splits too.
            shared = (_SPLIT in self.images) != (_SPLIT in self.masks)
            if images and masks:
                problems += [f"the picture {images[s]} has no mask in {mask_dir}" for s in stems if s not in masks]
                extra = sorted(set(masks) - set(images))
                problems += [] if shared else [f"the mask {masks[s]} has no picture in {image_dir}" for s in extra]
        self._raise_if_any(problems, split, _suffix_hint(*there) if problems and all(there) else "")
        return [Pair(s, os.path.join(image_dir, images[s]), os.path.join(mask_dir, masks[s])) for s in stems]

    def _files(self, image_dir: str, mask_dir: str, problems: list[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Stem to path of the pictures, and of the masks; what is wrong is added to `problems`."""
        if _are_one(image_dir, mask_dir):
            # What ends as masks do is no picture.
            images = _files_by_stem(image_dir, self.image_suffix, problems, not_suffix=self.mask_suffix)
            return images, _files_by_stem(mask_dir, self.mask_suffix, problems)
        # Where one lies in the other, what is in it is left aside there.
        images = _files_by_stem(image_dir, self.image_suffix, problems, apart=mask_dir)
        return images, _files_by_stem(mask_dir, self.mask_suffix, problems, apart=image_dir)

    def all_masks(self) -> list[str]:
        """The mask files of every split, so that what is read off them is the same for each."""
        splits = self.splits() if _SPLIT in self.masks else [""]
        found = []
        for split in splits:
            folder = self.path(self.masks, split)
            # Which split's pictures lie in a folder of all masks is not known here, and hardly ever any do.
            pictures = "" if _SPLIT in self.images and not split else self.path(self.images, split)
            apart = "" if not pictures or _are_one(pictures, folder) else pictures
            found += [os.path.join(folder, file) for file in _scan(folder, self.mask_suffix, apart)]
        return found

    def _raise_if_any(self, problems: Sequence[str], split: str, hint: str) -> None:
        if not problems:
            return
        lines = [f"\n  {problem}" for problem in problems[:_MOST_SHOWN]]
        rest = len(problems) - _MOST_SHOWN
        more = f"\n  and {rest} more" if rest > 0 else ""
        known = f"; there is {', '.join(self.splits()) or 'none'}" if self.names_splits else ""
        raise DataError(
            f"the dataset in {self.root} (split {split!r}{known}) has {len(problems)} problem(s):"
            f"{''.join(lines)}{more}\n"
            f"Pictures and masks belong together by their path without extension below {self.images!r} and "
            f"{self.masks!r} (which data.options.images and data.options.masks set for the dataset folder); "
            f"extensions: {' '.join(SUFFIXES)}{hint or _ONLY_PAIRS * any('has no' in problem for problem in problems)}"
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


def _are_one(folder: str, other: str) -> bool:
    return os.path.realpath(folder) == os.path.realpath(other)


def _scan(folder: str, suffix: str = "", apart: str = "") -> list[str]:
    """Paths below `folder` of all picture files whose stem ends in `suffix`; not of hidden ones, nor of those `apart`.

    Args:
      folder: where to look.
      suffix: what the names without extension end in.
      apart: a folder below it that holds something else; "" for none.
    """
    found, pending, seen = [], [""], {os.path.realpath(apart)} if apart else set()
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


def _files_by_stem(
    folder: str, suffix: str, problems: list[str], *, not_suffix: str = "", apart: str = ""
) -> dict[str, str]:
    """Stem to path below `folder`; what is wrong is added to `problems`."""
    if not os.path.isdir(folder):
        problems.append(f"the folder {folder} does not exist{_beside(folder)}")
        return {}
    by_stem: dict[str, str] = {}
    for path in sorted(_scan(folder, suffix, apart)):
        # Some systems store an accented letter as one character, others as two; they look the same.
        name = unicodedata.normalize("NFC", os.path.splitext(path)[0])
        if not_suffix and name.endswith(not_suffix):
            continue
        stem = name.removesuffix(suffix).replace(os.sep, "/")
        if stem in by_stem:
            problems.append(f"{by_stem[stem]} and {path} in {folder} have one stem: keep one of them")
        by_stem[stem] = path
    if not by_stem:
        problems.append(f"the folder {folder} holds no pictures" + (f" named *{suffix}.*" if suffix else ""))
    return by_stem


def _beside(folder: str) -> str:
    """What the nearest folder above one that is not there holds."""
    above = os.path.dirname(folder)
    while above and not os.path.isdir(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    try:
        names = sorted(name for name in os.listdir(above or ".") if not name.startswith("."))
    except OSError:
        return ""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f" ({above or '.'} holds {', '.join(names[:_MOST_SHOWN]) or 'nothing'}{more})"


def _suffix_hint(images: Iterable[str], masks: Iterable[str]) -> str:
    """The option that would pair them, where all names of one kind have something after those of the other."""
    kinds = ("mask_suffix", set(images), set(masks)), ("image_suffix", set(masks), set(images))
    for option, shorter, longer in kinds:
        first = min(shorter)
        for name in sorted(longer):
            suffix = name.removeprefix(first)
            if name.startswith(first) and suffix and "/" not in suffix and {s + suffix for s in shorter} <= longer:
                return f"\nEvery name there would have its pair with --config.data.options.{option}={suffix}"
    return ""


def _common(images: dict[str, str], masks: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Those of both whose stem the other has too."""
    return {s: path for s, path in images.items() if s in masks}, {s: path for s, path in masks.items() if s in images}


def _listed_stems(
    path: str, known: Collection[str], folders: Sequence[str], suffixes: Sequence[str], problems: list[str]
) -> list[str]:
    """The stems in the list at `path`; what is wrong with it is added to `problems`."""
    try:
        # Editors of Windows write a mark of three bytes before the text.
        with open(path, encoding="utf-8-sig") as file:
            lines = [unicodedata.normalize("NFC", line.strip()) for line in file]
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"the list {path} cannot be read ({error})")
        return []
    stems = {_stem(line, known, folders, suffixes) for line in lines if line and line[0] != "#"}
    if not stems:
        problems.append(f"the list {path} names no pictures")
    return sorted(stems)


def _missing(stems: Sequence[str], images: Collection[str], masks: Collection[str], path: str) -> list[str]:
    found = []
    for stem in stems:
        missing = [what for what, known in (("picture", images), ("mask", masks)) if stem not in known]
        if missing:
            found.append(f"{stem}, listed in {path}, has no {' and no '.join(missing)}")
    return found


def _stem(line: str, known: Collection[str], folders: Sequence[str], suffixes: Sequence[str]) -> str:
    """The stem that a line names: by the whole line or its first column, as a bare stem or as the path of a file."""
    for text in (line.lstrip("/"), line.split()[0].lstrip("/")):
        bare, extension = os.path.splitext(text)
        for name in (text, bare) if extension.lower() in SUFFIXES else (text,):
            below = [name, *(name.removeprefix(f"{folder}/") for folder in folders)]
            for stem in [*below, *(stem.removesuffix(suffix) for suffix in suffixes for stem in below)]:
                if stem in known:
                    return stem
    return line.split()[0]
