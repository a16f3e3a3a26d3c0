"""A dataset of your own: a folder of images and a folder of masks."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from flaxseg.data.decode.images import read_palette
from flaxseg.data.decode.intensities import ValueRange, check_value_range
from flaxseg.data.decode.limits import MAX_MEGAPIXELS
from flaxseg.data.masks.class_colors import ClassColors
from flaxseg.data.masks.class_names import default_names, parse_palette, read_class_names
from flaxseg.data.masks.class_values import (
    ClassValues,
    flatten_values,
    infer_class_values,
    parse_class_values,
    values_of_names,
)
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.masks.scan import find_mask_values
from flaxseg.data.sources.files import UnchangedFiles, read_file
from flaxseg.data.sources.pair_source import PairSource
from flaxseg.data.sources.pairs import Layout
from flaxseg.data.sources.split_pairs import split_pairs
from flaxseg.data.types import Color, SegmentationDataset
from flaxseg.errors import FRACTION, POSITIVE, ArgumentError, DataError, number_of
from flaxseg.keywords import arguments_checked

_ELSEWHERE = {
    "root": "use data_dir",
    "path": "use data_dir",
    "image_dir": "use images",
    "mask_dir": "use masks",
    "transform": "leave it out: images are augmented in the training step, see make_augment",
}
"""What to use instead of arguments that datasets have elsewhere."""


@arguments_checked(_ELSEWHERE)
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
    """Returns a split of the pairs of an image folder and a mask folder, matched by their paths without extension.

    `images`, `masks` and `split_list` may contain `{split}`, so that the files define the splits:

    - `images="{split}", masks="{split}annot"` reads `train/`, `trainannot/`, `val/`, `valannot/`;
    - `images="images", masks="annotations/trimaps", split_list="annotations/{split}.txt"` reads one folder by lists.

    Otherwise the splits are `train`, `val` (a fraction of the files chosen by a seed, identically on every machine) and
    `all`. Opening the dataset lists the folders and reads no image, unless `values` and `colors` are both omitted: then
    all masks are read once to find the values of the classes, which `class_names` do not change. See
    `flaxseg.data.masks.class_values.infer_class_values` and `values_of_names` for the rules.

    TIFF and NPY images have the channels of their files, all other formats are RGB. Images of more than 8 bits per
    channel become float32 in 0..255.

    Args:
      split: the name of a split, as described above.
      data_dir: the folder that the other paths are relative to.
      images: folder of the images, searched recursively: jpg, jpeg, png, gif, bmp, tif, tiff, webp, npy. `{split}` in
        its path stands for the name of the split: `{split}` reads train/ and val/.
      masks: folder of the masks, which contain one number per pixel (gray, palette, TIFF, NPY) or one color per class.
        `{split}` stands for the name of the split, as in `{split}_labels`. '' opens images without masks, whose pixels
        are all ignored, to predict them.
      split_list: text file with an image on each line: its stem or file path, as the whole line or the first column.
        `{split}` in its path stands for the name of the split: `lists/{split}.txt` reads lists/train.txt and
        lists/val.txt. Without it, the images of one list are divided into `train` and `val` at random.
      image_suffix: ending of the images' names after the common stem, such as `_leftImg8bit`.
      mask_suffix: ending of the masks' names after the common stem, such as `_mask`; other files are skipped.
      only_pairs: skip images without a mask and masks without an image, instead of raising an error.
      val_fraction: fraction of the pairs that forms `val` if the files do not define splits, 0..1.
      split_seed: seed of the choice of `val`.
      values: mask value of each class, such as (0, 255), or a tuple of several values, such as (0, (1, 255)).
      ignore_values: mask values of ignored pixels; 255 is always one unless it is in `values`.
      reduce_zero_label: ignore mask value 0 and make values 1..K the classes, as in ADE20K; instead of `values`.
      colors: for colored masks, the (red, green, blue) of each class; also the palette.
      ignore_colors: for colored masks, the colors of ignored pixels.
      class_names: name of each class in the order of their values, or the path of a text file with one on each line.
      palette: display color of each class; the default is the palette of the mask files, or a fixed one. Overlays leave
        class 0 untinted where its color is nearly black.
      value_range: (low, high) or one such pair per channel: stored values that become 0 and 255.
      channels: 1 or 3 to convert every image to gray or RGB; 0 to keep the channels of the files.
      max_megapixels: images and masks of more million pixels are rejected before they are decoded.

    Returns:
      A dataset whose `id`s are stems. Reading an example raises DataError for an unreadable file, a file that changed
      since it was first read, a mask whose size differs from its image, or a mask value or color without a class.

    Raises:
      ArgumentError: an option outside its range, options that exclude each other, or names that do not fit the values
        found in the masks.
      DataError: folders and files that do not match; the message lists what was found. If none of the images has a
        mask, it is a `flaxseg.errors.MissingMasks`.
    """
    _check_options(data_dir, val_fraction, value_range, channels, max_megapixels)
    layout = Layout(os.path.expanduser(data_dir), images, masks, split_list, image_suffix, mask_suffix, only_pairs)
    pairs, selection = split_pairs(layout, split, val_fraction=val_fraction, seed=split_seed)
    names = read_class_names(layout.root, class_names)
    if not masks and values is None and not len(colors):
        # There are no masks to find the classes in.
        values, ignore_values, reduce_zero_label = range(len(names) or 2), (), False
    classes: ClassValues | ClassColors
    if len(colors) or len(ignore_colors):
        if values is not None or ignore_values or reduce_zero_label:
            raise ArgumentError(
                "colors",
                colors,
                "is for colored masks, but `values`, `ignore_values` and `reduce_zero_label` are for masks of numbers; "
                "give only the options that match the masks",
            )
        classes = ClassColors(_parse_colors("colors", colors), _parse_colors("ignore_colors", ignore_colors))
    else:
        classes = _class_values(layout, values, tuple(ignore_values), reduce_zero_label, names, max_megapixels)
    # Values that were given are recorded in a configuration, and those of classes without names in their names.
    were_found = bool(names) and values is None and not reduce_zero_label
    found = classes.values if were_found and isinstance(classes, ClassValues) else ()
    names = _check_names(names, classes)
    files = UnchangedFiles(2 * len(pairs))
    source = PairSource(tuple(pairs), classes, files, max_megapixels, value_range, channels, found_values=found)
    shown = (
        _mask_palette(pairs[0].mask, classes, max_megapixels) if palette is None else parse_palette(palette, len(names))
    )
    return SegmentationDataset(source, len(names), names, shown, selection)


def _check_options(
    data_dir: str, val_fraction: float, value_range: ValueRange | None, channels: int, max_megapixels: float
) -> None:
    if not data_dir:
        raise ArgumentError("data_dir", data_dir, "must be the folder that contains the images and masks")
    FRACTION.check("val_fraction", val_fraction)
    if value_range is not None:
        check_value_range(value_range)
    if channels not in (0, 1, 3):
        raise ArgumentError("channels", channels, "must be 1 (gray), 3 (RGB) or 0 (as stored)")
    POSITIVE.check("max_megapixels", max_megapixels)


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
            raise ArgumentError(
                "reduce_zero_label",
                reduce_zero_label,
                "makes the mask values 1, 2, 3, ... the classes, but `values` names others; give only one of the two",
            )
        ignore_values = (0, *(value for value in ignore_values if value))
    if values is not None:
        return ClassValues(parse_class_values(values), ignore_values)
    if names and reduce_zero_label:
        return ClassValues(tuple(range(1, len(names) + 1)), ignore_values)
    scanned = find_mask_values(layout.all_masks(), max_megapixels=max_megapixels)
    if names:
        found = values_of_names(names, scanned, ignore_values=ignore_values)
    else:
        found = infer_class_values(scanned, ignore_values=ignore_values)
    if reduce_zero_label:
        return ClassValues(tuple(v for v in range(1, max(found) + 1) if v not in ignore_values), ignore_values)
    logging.getLogger(__name__).info(
        "%s: the classes have the mask values %s; values=%s avoids reading all masks to find them",
        layout.root, found, found,
    )  # fmt: skip
    return ClassValues(found, ignore_values)


def _parse_colors(argument: str, colors: Sequence[Sequence[int]]) -> tuple[Color, ...]:
    try:
        return tuple((int(red), int(green), int(blue)) for red, green, blue in colors)
    except (TypeError, ValueError):
        raise ArgumentError(argument, colors, "must be a sequence of colors (red, green, blue)") from None


def _check_names(names: tuple[str, ...], classes: ClassValues | ClassColors) -> tuple[str, ...]:
    """Returns the names of the classes, default ones if none are given."""
    is_colored = isinstance(classes, ClassColors)
    values = tuple(range(len(classes.colors))) if isinstance(classes, ClassColors) else classes.values
    if names and len(names) != len(values):
        option = "colors" if is_colored else "values"
        raise ArgumentError(
            "class_names",
            names,
            f"has {number_of(len(names), 'name')} for {len(values)} `{option}`; give one name per class",
        )
    return names or default_names(values)


def _mask_palette(mask: str, classes: ClassValues | ClassColors, max_megapixels: float) -> tuple[Color, ...]:
    """Returns the colors of colored masks, or the palette of the mask file if its colors are distinct, or a fixed one.

    A class with several mask values has the color of the first one.
    """
    if isinstance(classes, ClassColors):
        return classes.colors
    firsts = [flatten_values([value])[0] for value in classes.values]
    if not mask:
        return default_palette(len(firsts))
    try:
        colors = read_palette(read_file(mask), name=mask, max_megapixels=max_megapixels)
    except DataError:  # Reported when the example is read, which may skip one bad file among many.
        return default_palette(len(firsts))
    if colors is not None and max(firsts) < len(colors):
        chosen = colors[firsts]
        if len(np.unique(chosen, axis=0)) == len(chosen):
            return parse_palette(chosen.tolist(), len(chosen))
    return default_palette(len(firsts))
