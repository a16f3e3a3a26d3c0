"""A dataset of one's own: a folder of pictures and a folder of masks."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from flaxseg.data.decode.images import read_palette
from flaxseg.data.decode.intensities import ValueRange, check_value_range
from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.masks.class_colors import ClassColors
from flaxseg.data.masks.class_names import checked_palette, default_names, read_names
from flaxseg.data.masks.class_values import ClassValues, MaskValue, class_values, flat, inferred_values
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.masks.scan import values_in
from flaxseg.data.sources.files import UnchangedFiles, read_file
from flaxseg.data.sources.pair_source import PairSource
from flaxseg.data.sources.pairs import Layout, Pair, seeded_part
from flaxseg.data.types import SegmentationDataset
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
    only_pairs: bool = False,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    values: Sequence[int | Sequence[int]] | None = None,
    ignore_values: Sequence[int] = (),
    reduce_zero_label: bool = False,
    colors: Sequence[Sequence[int]] = (),
    ignore_colors: Sequence[Sequence[int]] = (),
    class_names: Sequence[str] | str = (),
    palette: Sequence[Sequence[int]] | None = None,
    value_range: ValueRange | None = None,
    channels: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> SegmentationDataset:
    """The pairs of a picture folder and a mask folder, matched by their paths without extension.

    `images`, `masks` and `split_list` may contain `{split}`, and the files then say what belongs to which split:

    - `images="{split}", masks="{split}annot"` reads `train/`, `trainannot/`, `val/`, `valannot/`;
    - `images="images", masks="annotations/trimaps", split_list="annotations/{split}.txt"` reads one folder by lists.

    Otherwise the splits are `train`, `val` (a seeded share of the files, the same on every machine) and `all`.
    Opening lists the folders and reads no picture, except where `values`, `colors` and `class_names` are all left
    out: then all masks are read once. For the rule see `flaxseg.data.masks.class_values.inferred_values`.

    TIFF and NPY pictures have the channels that the files hold, those of all other formats are RGB. Pictures of more
    than 8 bits become float32 on the scale of the others, 0..255.

    Args:
      split: a split's name, as above.
      data_dir: the folder that the other paths start from.
      images: folder of the pictures, nested or not; jpg, jpeg, png, gif, bmp, tif, tiff, webp, npy.
      masks: folder of the masks: one number a pixel (gray, palette, TIFF, NPY), or a color a class.
      split_list: text file with a picture on each line: its stem or its file's path, as the whole line or the first
        column; blank lines and lines from # on are skipped.
      image_suffix: what a picture's name has after the common stem, such as `_leftImg8bit`.
      mask_suffix: the same for masks, such as `_mask`; files without it are left aside.
      only_pairs: leave aside pictures without a mask and masks without a picture, which are an error otherwise.
      val_fraction: the share of `val` where the files name no splits, 0..1.
      split_seed: another seed, another choice of `val`.
      values: `values[i]` is the mask value of class i, such as (0, 255), or a tuple of those that are one class, such
        as (0, (1, 255)); left out, as many as `class_names` from 0 on.
      ignore_values: mask values of pixels that nothing counts; 255 is one unless it is among `values`.
      reduce_zero_label: mask value 0 is ignored and values 1..K are the classes, as in ADE20K; instead of `values`.
      colors: for colored masks, the (red, green, blue) of each class; also the palette.
      ignore_colors: colors of pixels that nothing counts.
      class_names: a name for each class, or the path of a text file with one on each line.
      palette: a color for each class; left out, the mask files' own palette, or else a fixed one.
      value_range: (low, high), or one such pair for each channel: the stored values that become 0 and 255. Left out,
        8 bits stay as stored, 16 unsigned bits have (0, 65535), and other types are refused.
      channels: 1 or 3 to make gray or RGB of every picture; 0 for the channels as above.
      max_megapixels: pictures and masks of more million pixels are refused before they are decoded.

    Returns:
      A dataset whose `id`s are stems. Reading an example raises DataError for an unreadable file, one that changed
      since it was first read, a mask of another size than its picture, or a mask value or color without a class.

    Raises:
      DataError: folders, files or options that do not fit together; the message lists what was found.
    """
    if not data_dir:
        raise DataError("the dataset folder needs data.dir, the folder that holds the pictures and masks")
    _check_reading(value_range, channels, max_megapixels)
    layout = Layout(os.path.expanduser(data_dir), images, masks, split_list, image_suffix, mask_suffix, only_pairs)
    pairs = _split_pairs(layout, split, val_fraction, split_seed)
    names = read_names(layout.root, class_names)
    classes: ClassValues | ClassColors
    numbers: tuple[MaskValue, ...]
    if len(colors) or len(ignore_colors):
        classes = _class_colors(colors, ignore_colors, values, ignore_values, reduce_zero_label)
        numbers, own_palette = tuple(range(len(classes.colors))), classes.colors
    else:
        classes = _class_values(layout, values, tuple(ignore_values), reduce_zero_label, names, max_megapixels)
        numbers, own_palette = classes.values, None
    if names and len(names) != len(numbers):
        option = "values" if own_palette is None else "colors"
        raise DataError(
            f"{len(names)} data.options.class_names for {len(numbers)} data.options.{option}: "
            f"give one name for each {option[:-1]}"
        )
    names = names or default_names(numbers)
    if palette is not None:
        own_palette = checked_palette(palette, len(names))
    source = PairSource(tuple(pairs), classes, UnchangedFiles(2 * len(pairs)), max_megapixels, value_range, channels)
    shown = own_palette or _mask_palette(pairs[0].mask, numbers, max_megapixels)
    return SegmentationDataset(source, len(names), names, shown)


def _check_reading(value_range: ValueRange | None, channels: int, max_megapixels: float) -> None:
    if value_range is not None:
        check_value_range(value_range)
    if channels not in (0, 1, 3):
        raise DataError(
            f"data.options.channels is {channels!r}: it has to be 1 (gray), 3 (RGB) or 0 (as the files are)"
        )
    if not max_megapixels > 0:
        raise DataError(f"data.options.max_megapixels is {max_megapixels!r}: it has to be above 0")


def _split_pairs(layout: Layout, split: str, val_fraction: float, split_seed: int) -> list[Pair]:
    """The pairs of `split`, at least one."""
    if layout.names_splits:
        return layout.pairs(split)
    if split not in _FRACTION_SPLITS:
        raise DataError(
            f"the folder dataset in {layout.root} has no split {split!r}: without {{split}} in data.options.images, "
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
            f"the split {split!r} of the folder dataset in {layout.root} is empty: {len(pairs)} pair(s) with "
            f"data.options.val_fraction={val_fraction}; change the fraction, or use the split 'all'"
        )
    return chosen


def _class_values(
    layout: Layout,
    values: Sequence[int | Sequence[int]] | None,
    ignore_values: tuple[int, ...],
    reduce_zero_label: bool,
    names: tuple[str, ...],
    max_megapixels: float,
) -> ClassValues:
    if reduce_zero_label:
        if values is not None:
            raise DataError(
                "data.options.reduce_zero_label means the values 1, 2, 3, ..., and data.options.values names others: "
                "give only one of both"
            )
        ignore_values = (0, *(value for value in ignore_values if value))
    first = int(reduce_zero_label)
    if values is not None:
        return ClassValues(class_values(values), ignore_values)
    if names:
        # Numbering the classes past the ignored values would shift every class after one.
        return ClassValues(tuple(range(first, first + len(names))), ignore_values)
    scanned = values_in(layout.all_masks(), max_megapixels=max_megapixels)
    found = inferred_values(scanned, ignore_values=ignore_values)
    if reduce_zero_label:
        return ClassValues(tuple(v for v in range(1, max(found) + 1) if v not in ignore_values), ignore_values)
    logging.getLogger(__name__).info(
        "%s: the masks hold %d classes with the values %s; data.options.values=%s saves this scan",
        layout.root, len(found), found, found,
    )  # fmt: skip
    return ClassValues(found, ignore_values)


def _class_colors(
    colors: Sequence[Sequence[int]],
    ignore_colors: Sequence[Sequence[int]],
    values: Sequence[int | Sequence[int]] | None,
    ignore_values: Sequence[int],
    reduce_zero_label: bool,
) -> ClassColors:
    if values is not None or ignore_values or reduce_zero_label:
        raise DataError(
            "data.options.colors is for colored masks, and values, ignore_values and reduce_zero_label are for masks "
            "of numbers: give only those that fit the masks"
        )
    try:
        classes, ignored = (
            tuple((int(red), int(green), int(blue)) for red, green, blue in given) for given in (colors, ignore_colors)
        )
    except (TypeError, ValueError):
        raise DataError(
            f"data.options.colors is {colors!r} and data.options.ignore_colors {ignore_colors!r}: each has to be a "
            "sequence of colors (red, green, blue)"
        ) from None
    return ClassColors(classes, ignored)


def _mask_palette(mask: str, values: tuple[MaskValue, ...], max_megapixels: float) -> tuple[tuple[int, int, int], ...]:
    """The colors that a mask file itself gives the classes, if it gives each another; else the default ones.

    Of a class with several mask values, the first one's.
    """
    firsts = [flat([value])[0] for value in values]
    try:
        colors = read_palette(read_file(mask), name=mask, max_megapixels=max_megapixels)
    except DataError:  # Told where the example is read, so that one bad file of many can be passed over.
        return default_palette(len(values))
    if colors is not None and max(firsts) < len(colors):
        chosen = colors[firsts]
        if len(np.unique(chosen, axis=0)) == len(chosen):
            return checked_palette(chosen.tolist(), len(chosen))
    return default_palette(len(values))
