"""Pairs of image and mask files in a folder, by split."""

import dataclasses
import glob
import os
from collections.abc import Collection, Sequence

from flaxseg.data.sources.image_files import (
    SUFFIXES,
    files_by_stem,
    is_same_folder,
    list_image_files,
    nearest_content,
)
from flaxseg.data.sources.layout_hints import NO_HINT, ONLY_PAIRS_HINT, Hint, list_hint, root_hint, suffix_hint
from flaxseg.data.sources.split_lists import SPLIT, read_split_list
from flaxseg.errors import DataError, MissingMasks, number_of

_MAX_SHOWN = 10
_MAX_EXAMPLES = 3
"""Of problems that have one cause, which the message names, fewer are shown."""

_NO_MASKS_HINT = (
    "None of these {} images has a mask. Images without masks can be predicted, but neither trained nor evaluated on"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its mask file, "" if it has none; `stem` is the common part of their names."""

    stem: str
    image: str
    mask: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """The folders and lists of a dataset; paths are relative to `root` and may contain `{split}`.

    Attributes:
      root: the folder of the dataset.
      images: the folder of the images.
      masks: the folder of the masks; "" if the images have none.
      split_list: a text file with the stem or the path of an image on each line; "" for none.
      image_suffix: the part of an image's name between the common stem and the extension.
      mask_suffix: the same part of a mask's name; files without it are skipped.
      only_pairs: skip images without a mask, masks without an image, and lines of a list that name either.
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
        """Whether the files define which example belongs to which split."""
        return any(SPLIT in path for path in (self.images, self.masks, self.split_list))

    def path(self, template: str, split: str) -> str:
        """Returns the full path of one of the folders or lists above, for `split`."""
        return os.path.join(self.root, template.replace(SPLIT, split))

    def splits(self) -> list[str]:
        """Returns the names of the splits for which every folder and list exists."""
        templates = [path for path in (self.split_list, self.images, self.masks) if SPLIT in path]
        before, after = os.path.join(self.root, templates[0]).split(SPLIT, 1)
        after = after.partition("/")[0]
        found = glob.glob(f"{glob.escape(before)}*{glob.escape(after)}")
        names = {path[len(before) : len(path) - len(after)] for path in found} - {""}
        return sorted(name for name in names if all(os.path.exists(self.path(path, name)) for path in templates))

    def pairs(self, split: str) -> list[Pair]:
        """Returns the pairs of a split, sorted by stem, so that a seed always gives the same order of training.

        Raises:
          MissingMasks: none of the images has a mask, although masks are to be read; a DataError.
          DataError: missing folders or files, or files that do not match; the message lists up to ten problems.
        """
        self._check_root()
        image_dir, mask_dir = self.path(self.images, split), self.path(self.masks, split)
        problems: list[str] = []
        if not self.masks:
            return self._images_only(split, image_dir, problems)
        stems: list[str] = []
        images, masks = found = self._find_files(image_dir, mask_dir, problems)
        if self.only_pairs and not problems:
            images, masks = _common_stems(images, masks)
            problems += [] if images else [f"no image in {image_dir} has a mask in {mask_dir}"]
        if self.split_list and not problems:
            stems = self._listed_stems(split, images, masks, problems)
        else:
            stems = sorted(images)
            # One mask folder for several image folders also holds the masks of the other splits.
            is_shared = (SPLIT in self.images) != (SPLIT in self.masks)
            if images and masks:
                problems += [f"the image {images[s]} has no mask in {mask_dir}" for s in stems if s not in masks]
                extra = [] if is_shared else sorted(set(masks) - set(images))
                problems += [f"the mask {masks[s]} has no image in {image_dir}" for s in extra]
        if problems:
            places = self.root, self.images, self.masks, self.split_list
            hint = suffix_hint(*found) if all(found) else root_hint(*places)
            listed = [stem for stem in stems if stem in found[0]] or list(found[0])
            if hint == NO_HINT and not stems:
                hint = list_hint(self.root, self.split_list, split)
            if listed and hint == NO_HINT and not any(stem in found[1] for stem in listed):
                raise MissingMasks(self._message(problems, split, _NO_MASKS_HINT.format(len(listed))))
            if hint == NO_HINT and any("has no" in problem for problem in problems):
                hint = ONLY_PAIRS_HINT
            raise self._error(problems, split, hint)
        return [Pair(s, os.path.join(image_dir, images[s]), os.path.join(mask_dir, masks[s])) for s in stems]

    def _images_only(self, split: str, image_dir: str, problems: list[str]) -> list[Pair]:
        """Returns the images of a split, without masks."""
        images = files_by_stem(image_dir, self.image_suffix, problems)
        stems = sorted(images)
        if self.split_list and not problems:
            stems = self._listed_stems(split, images, images, problems)
        if problems:
            hint = NO_HINT if stems else list_hint(self.root, self.split_list, split)
            raise self._error(problems, split, hint)
        return [Pair(stem, os.path.join(image_dir, images[stem]), "") for stem in stems]

    def all_masks(self) -> list[str]:
        """Returns the mask files of every split, so that values inferred from them are the same for each split."""
        splits = self.splits() if SPLIT in self.masks else [""]
        found = []
        for split in splits:
            folder = self.path(self.masks, split)
            # For a folder with the masks of all splits, the image folder is unknown, but hardly ever inside it.
            images = "" if SPLIT in self.images and not split else self.path(self.images, split)
            exclude = "" if not images or is_same_folder(images, folder) else images
            found += [os.path.join(folder, file) for file in list_image_files(folder, self.mask_suffix, exclude)]
        return found

    def _check_root(self) -> None:
        """Raises DataError if the folder of the dataset does not exist, or is a pattern of file names."""
        if os.path.isdir(self.root):
            return
        if glob.has_magic(self.root):
            raise DataError(
                f"the folder {self.root} does not exist: patterns of names are not expanded; give the folder of the "
                "dataset, and the folders of the images and masks below it"
            )
        what = "is a file" if os.path.exists(self.root) else f"does not exist{nearest_content(self.root)}"
        raise DataError(f"the folder of the dataset, {self.root}, {what}; check the path")

    def _find_files(self, image_dir: str, mask_dir: str, problems: list[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Returns the paths of the images and of the masks by stem, and appends what is wrong to `problems`."""
        if is_same_folder(image_dir, mask_dir):
            # In a common folder, a file whose name ends like a mask is not an image.
            images = files_by_stem(image_dir, self.image_suffix, problems, exclude_suffix=self.mask_suffix)
            return images, files_by_stem(mask_dir, self.mask_suffix, problems)
        contents = [nearest_content(folder) for folder in (image_dir, mask_dir) if not os.path.isdir(folder)]
        if len(contents) == 2 and contents[0] == contents[1]:
            problems.append(f"neither the folder {image_dir} nor {mask_dir} exists{contents[0]}")
            return {}, {}
        # If one folder lies inside the other, its files are not searched there.
        images = files_by_stem(image_dir, self.image_suffix, problems, exclude=mask_dir)
        return images, files_by_stem(mask_dir, self.mask_suffix, problems, exclude=image_dir)

    def _listed_stems(
        self, split: str, images: Collection[str], masks: Collection[str], problems: list[str]
    ) -> list[str]:
        """Returns the stems in the split's list, and appends what is wrong to `problems`."""
        path, folders = self.path(self.split_list, split), (self.images, self.masks)
        known = {*images, *masks}
        kinds = [("image", images), ("mask", masks)] if self.masks else [("image", images)]
        stems = read_split_list(path, known, folders, (self.image_suffix, self.mask_suffix), problems)
        if self.only_pairs:
            stems = [stem for stem in stems if stem in images]
            problems += [] if stems or problems else [f"no entry of the list {path} has an image and a mask"]
            return stems
        for stem in stems:
            missing = [kind for kind, files in kinds if stem not in files]
            if missing:
                problems.append(f"{stem}, listed in {path}, has no {' and no '.join(missing)}")
        return stems

    def _error(self, problems: Sequence[str], split: str, hint: Hint) -> DataError:
        text, options = hint
        repaired = dataclasses.replace(self, **options)
        splits = repaired.splits() if repaired.names_splits else []
        return DataError(self._message(problems, split, text), options=options, splits=splits)

    def _message(self, problems: Sequence[str], split: str, hint: str) -> str:
        number = _MAX_SHOWN if hint in (NO_HINT[0], ONLY_PAIRS_HINT[0]) else _MAX_EXAMPLES
        lines = [f"\n  {problem}" for problem in problems[:number]]
        rest = len(problems) - number
        more = f"\n  and {rest:,} more" if rest > 0 else ""
        known = f"; existing splits: {', '.join(self.splits()) or 'none'}" if self.names_splits else ""
        return (
            f"the dataset in {self.root} (split {split!r}{known}) has {number_of(len(problems), 'problem')}"
            f"{f'. {hint}.' if hint else ':'}{''.join(lines)}{more}\n"
            f"Images and masks are paired by their path without extension below {self.images!r} and {self.masks!r}, "
            "which are set by the options `images` and `masks` of the dataset `folder`; "
            f"extensions: {' '.join(SUFFIXES)}"
        )


def _common_stems(images: dict[str, str], masks: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the entries of both dicts whose stem is also in the other."""
    return {s: path for s, path in images.items() if s in masks}, {s: path for s, path in masks.items() if s in images}
