"""A data set of one's own: a folder of pictures and a folder of masks."""

import concurrent.futures
import dataclasses
import logging
import os
from collections.abc import Sequence

import numpy as np
import tqdm

from flaxseg.data.batch import Example, SegmentationDataset
from flaxseg.data.images import decode_image, decode_label, read_palette
from flaxseg.data.labels import ClassValues, inferred_values
from flaxseg.data.pairs import Layout, Pair, seeded_part
from flaxseg.data.palette import default_palette
from flaxseg.errors import DataError

_FRACTION_SPLITS = ("train", "val", "all")


def folder(
    split: str,
    *,
    data_dir: str,
    images: str = "images",
    masks: str = "masks",
    split_list: str = "",
    image_suffix: str = "",
    mask_suffix: str = "",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    values: Sequence[int] | None = None,
    ignore_values: Sequence[int] = (),
    class_names: Sequence[str] | str = (),
    palette: Sequence[Sequence[int]] | None = None,
) -> SegmentationDataset:
    """The pairs of a picture folder and a mask folder, matched by their paths without extension.

    `images`, `masks` and `split_list` may contain `{split}`, and the files then say what belongs to which split:

    - `images="{split}", masks="{split}annot"` reads `train/`, `trainannot/`, `val/`, `valannot/`;
    - `images="images", masks="annotations/trimaps", split_list="annotations/{split}.txt"` reads one folder by lists.

    Otherwise the splits are `train`, `val` (a seeded share of the files, the same on every machine) and `all`.
    Opening lists the folders and reads no picture, except where `values` and `class_names` are both left out: then
    all masks are read once. For the rule see `flaxseg.data.labels.inferred_values`.

    Args:
      split: a split's name, as above.
      data_dir: the folder that the other paths start from.
      images: folder of the pictures, nested or not; jpg, jpeg, png, gif, bmp, tif, tiff, webp.
      masks: folder of the masks: grey or palette files with one number a pixel.
      split_list: text file of stems, the first column of each line; blank lines and lines from # on are skipped.
      image_suffix: what a picture's name has after the common stem, such as `_leftImg8bit`.
      mask_suffix: the same for masks, such as `_mask`; files without it are left aside.
      val_fraction: the share of `val` where the files name no splits, 0..1.
      split_seed: another seed, another choice of `val`.
      values: `values[i]` is the mask value of class i, such as (0, 255); left out, as many as `class_names` from 0 on.
      ignore_values: mask values of pixels that nothing counts; 255 is one unless it is among `values`.
      class_names: a name for each class, or the path of a text file with one on each line.
      palette: a colour for each class; left out, the mask files' own palette, or else a fixed one.

    Returns:
      A data set whose `id`s are stems. Reading an example raises DataError for an unreadable file, a mask of another
      size than its picture, or a mask value without a class.

    Raises:
      DataError: folders, files or options that do not fit together; the message lists what was found.
    """
    if not data_dir:
        raise DataError("the data set folder needs data.dir, the folder that holds the pictures and masks")
    layout = Layout(os.path.expanduser(data_dir), images, masks, split_list, image_suffix, mask_suffix)
    pairs = _split_pairs(layout, split, val_fraction, split_seed)
    names = _read_names(layout.root, class_names)
    classes = _class_values(layout, values, tuple(ignore_values), names)
    if names and len(names) != len(classes.values):
        raise DataError(
            f"{len(names)} data.options.class_names for {len(classes.values)} data.options.values: "
            "give one name for each value"
        )
    names = names or _default_names(classes.values)
    colours = _checked_palette(palette, len(names)) if palette is not None else _mask_palette(pairs[0].mask, classes)
    return SegmentationDataset(_FolderSource(tuple(pairs), classes), len(names), names, colours)


@dataclasses.dataclass(frozen=True)
class _FolderSource:
    pairs: tuple[Pair, ...]
    classes: ClassValues

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Example:
        pair = self.pairs[index]
        image = decode_image(_read(pair.image), name=pair.image)
        mask = decode_label(_read(pair.mask), name=pair.mask)
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"{pair.mask}: is {mask.shape[1]}x{mask.shape[0]} (width x height), but its picture {pair.image} is "
                f"{image.shape[1]}x{image.shape[0]} as displayed (EXIF orientation carried out); "
                "a mask has its picture's size: export one of them again"
            )
        return {"image": image, "label": self.classes.to_classes(mask, name=pair.mask), "id": pair.stem}


def _split_pairs(layout: Layout, split: str, val_fraction: float, split_seed: int) -> list[Pair]:
    """The pairs of `split`, at least one."""
    if layout.names_splits:
        return layout.pairs(split)
    if split not in _FRACTION_SPLITS:
        raise DataError(
            f"the folder data set in {layout.root} has no split {split!r}: without {{split}} in data.options.images, "
            f"masks or split_list there are {', '.join(_FRACTION_SPLITS)}"
        )
    if not 0 <= val_fraction <= 1:
        raise DataError(f"data.options.val_fraction is {val_fraction}: it has to be in 0..1")
    pairs = layout.pairs(split)
    if split == "all":
        return pairs
    held_out = seeded_part((pair.stem for pair in pairs), fraction=val_fraction, seed=split_seed)
    chosen = [pair for pair in pairs if (pair.stem in held_out) == (split == "val")]
    if not chosen:
        raise DataError(
            f"the split {split!r} of the folder data set in {layout.root} is empty: {len(pairs)} pair(s) with "
            f"data.options.val_fraction={val_fraction}; change the fraction, or use the split 'all'"
        )
    return chosen


def _class_values(
    layout: Layout, values: Sequence[int] | None, ignore_values: tuple[int, ...], names: tuple[str, ...]
) -> ClassValues:
    if values is not None:
        return ClassValues(tuple(int(value) for value in values), ignore_values)
    if names:
        # Numbering the classes past the ignored values would shift every class after one.
        return ClassValues(tuple(range(len(names))), ignore_values)
    found = inferred_values(_values_in(layout.all_masks()), ignore_values=ignore_values)
    logging.getLogger(__name__).info(
        "%s: the masks hold %d classes with the values %s; data.options.values=%s saves this scan",
        layout.root, len(found), found, found,
    )  # fmt: skip
    return ClassValues(found, ignore_values)


def _values_in(masks: Sequence[str]) -> set[int]:
    """Every value that occurs in these mask files."""
    found = np.zeros(256, bool)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Without a terminal there is no bar.
        for present in tqdm.tqdm(pool.map(_occurring, masks), total=len(masks), desc="mask values", disable=None):
            found |= present
    return set(np.flatnonzero(found).tolist())


def _occurring(path: str) -> np.ndarray:
    """bool[256]: the values in one mask file."""
    data = _read(path)
    if data.startswith(b"\xff\xd8\xff"):
        raise DataError(
            f"{path}: is a JPEG, which does not keep exact values, so that the classes cannot be read off the masks; "
            "save the masks as PNG, or name the classes' values in data.options.values"
        )
    return np.bincount(decode_label(data, name=path).ravel(), minlength=256) > 0


def _default_names(values: tuple[int, ...]) -> tuple[str, ...]:
    if values == (0, 255):
        return ("background", "foreground")
    return tuple(str(value) for value in values)


def _read_names(root: str, class_names: Sequence[str] | str) -> tuple[str, ...]:
    if not isinstance(class_names, str):
        return tuple(class_names)
    if not class_names:
        return ()
    path = os.path.join(root, os.path.expanduser(class_names))
    try:
        with open(path, encoding="utf-8") as file:
            names = tuple(line.strip() for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"data.options.class_names: the file {path} cannot be read ({error}); "
            "give a text file with one name on each line, or a sequence of names"
        ) from None
    if not names:
        raise DataError(f"data.options.class_names: the file {path} holds no names; write one on each line")
    return names


def _checked_palette(palette: Sequence[Sequence[int]], num_classes: int) -> tuple[tuple[int, int, int], ...]:
    array = np.asarray(palette)
    if array.shape != (num_classes, 3) or array.min() < 0 or array.max() > 255:
        raise DataError(
            f"data.options.palette has the shape {list(array.shape)}: for {num_classes} classes it has to hold "
            f"{num_classes} colours (red, green, blue), each number in 0..255"
        )
    return tuple((int(red), int(green), int(blue)) for red, green, blue in array)


def _mask_palette(mask: str, classes: ClassValues) -> tuple[tuple[int, int, int], ...]:
    """The colours that a mask file itself gives the classes, if it gives each another; else the default ones."""
    colours = read_palette(_read(mask), name=mask)
    if colours is not None and max(classes.values) < len(colours):
        chosen = colours[list(classes.values)]
        if len(np.unique(chosen, axis=0)) == len(chosen):
            return _checked_palette(chosen.tolist(), len(chosen))
    return default_palette(len(classes.values))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror})"
        raise DataError(f"{problem}; restore it, or take it out of the data set") from error
