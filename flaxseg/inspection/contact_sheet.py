"""Contact sheets: many small images with their labels drawn over them, captions and a legend."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flaxseg.data.resize import resize_image, resize_label
from flaxseg.data.statistics import Statistics
from flaxseg.data.types import IGNORE_LABEL, Batch, SegmentationDataset
from flaxseg.report.drawing import add_legend, escape_math, figure_to_array, new_figure, overlay, to_rgb

_COLUMNS = 4
_MAX_SIDE = 300
"""Longer side of a thumbnail in pixels; Matplotlib enlarges smaller ones by repeating pixels."""

_MAX_CAPTION = 42
_MAX_FROM_BATCH = 12


class Thumbnail(NamedTuple):
    """A small image and the caption above it."""

    pixels: np.ndarray
    """uint8[h, w, 3]."""
    caption: str


class ContactSheet(NamedTuple):
    """A contact sheet and the name of its file."""

    file: str
    """The file's name, such as `train.png`."""
    title: str
    pixels: np.ndarray
    """uint8[H, W, 3]."""


def split_sheet(
    file: str, title: str, dataset: SegmentationDataset, statistics: Statistics, max_images: int
) -> ContactSheet:
    """Returns a contact sheet of usable examples of a split, evenly spaced from the first to the last.

    Args:
      file: the file's name.
      title: the title of the sheet.
      dataset: the split.
      statistics: the statistics of the split; at least one example is usable.
      max_images: the largest number of images to show.
    """
    thumbnails = []
    for index in evenly_spaced(statistics.indices, max_images):
        example = dataset.source[index]
        thumbnails.append(thumbnail(example["image"], example["label"], example["id"], dataset.palette))
    pixels = draw_sheet(thumbnails, title, dataset, statistics.class_fractions, statistics.ignored_fraction)
    return ContactSheet(file, title, pixels)


def batch_sheet(step: int, batch: Batch, dataset: SegmentationDataset) -> ContactSheet:
    """Returns a contact sheet of the first images of a training batch, each without and with its label.

    Args:
      step: the training step that takes the batch, from 0.
      batch: the augmented batch, as the network receives it.
      dataset: the split that the batch comes from; supplies the names and colors of the classes.
    """
    size = len(batch["label"])
    shown = min(size, _MAX_FROM_BATCH)
    thumbnails = []
    for i, (image, label) in enumerate(zip(batch["image"][:shown], batch["label"][:shown], strict=True)):
        thumbnails.append(thumbnail(image, None, f"{i + 1} of {size}", dataset.palette))
        thumbnails.append(thumbnail(image, label, "with its label", dataset.palette))
    title = f"training batch {step + 1} as the network receives it: {shown} of {size} images"
    pixels = np.bincount(batch["label"].ravel(), minlength=256)
    classes, ignored = pixels[: dataset.num_classes], pixels[IGNORE_LABEL]
    sheet = draw_sheet(thumbnails, title, dataset, classes / max(int(classes.sum()), 1), ignored / pixels.sum())
    return ContactSheet(f"batch_{step}.png", title, sheet)


def thumbnail(
    image: np.ndarray, label: np.ndarray | None, caption: str, palette: Sequence[tuple[int, int, int]]
) -> Thumbnail:
    """Returns an image shrunk to at most 300 x 300 pixels, with its label drawn over it.

    Args:
      image: uint8 or float32[H, W, C] of values in 0..255.
      label: uint8[H, W], or None to show the image alone.
      caption: the caption; a long one loses its beginning.
      palette: one RGB color per class, each channel in 0..255.
    """
    scale = min(_MAX_SIDE / max(image.shape[:2]), 1)
    size = (max(round(scale * image.shape[0]), 1), max(round(scale * image.shape[1]), 1))
    # Shrinking before drawing keeps the outlines of every image equally thin.
    small = resize_image(image, size)
    shown = to_rgb(small) if label is None else overlay(small, resize_label(label, size), palette)
    short = caption if len(caption) <= _MAX_CAPTION else f"...{caption[3 - _MAX_CAPTION :]}"
    return Thumbnail(shown, short)


def evenly_spaced(indices: np.ndarray, number: int) -> list[int]:
    """Returns up to `number` of the indices, int[N], evenly spaced and including the first and the last."""
    positions = np.linspace(0, len(indices) - 1, min(number, len(indices))).round().astype(int)
    return [int(i) for i in indices[positions]]


def draw_sheet(
    thumbnails: Sequence[Thumbnail],
    title: str,
    dataset: SegmentationDataset,
    fractions: np.ndarray,
    ignored_fraction: float,
) -> np.ndarray:
    """Draws thumbnails in rows, with a title and a legend of the classes.

    Args:
      thumbnails: the images to show, at least one.
      title: the title of the sheet.
      dataset: supplies the names and colors of the classes.
      fractions: float[K], the fraction of the valid pixels that each class covers, 0..1.
      ignored_fraction: the fraction of all pixels that is ignored, 0..1.

    Returns:
      uint8[H, W, 3].
    """
    rows = math.ceil(len(thumbnails) / _COLUMNS)
    # Cells are at most square: a few upright images would leave empty space around all others.
    aspect = max(min(t.pixels.shape[0] / t.pixels.shape[1], 1.0) for t in thumbnails)
    figure = new_figure(width=3.1 * _COLUMNS, height=(3.0 * aspect + 0.3) * rows + 1.2)
    figure.suptitle(escape_math(title), fontsize=11)
    for axis in (axes := figure.subplots(rows, _COLUMNS, squeeze=False)).flat:
        axis.set_axis_off()
    for axis, (pixels, caption) in zip(axes.flat, thumbnails, strict=False):
        axis.imshow(pixels, interpolation="nearest")
        axis.set_title(escape_math(caption), fontsize=8)
    names = [f"{name}  {fraction:.2%}" for name, fraction in zip(dataset.class_names, fractions, strict=True)]
    ignored = f"ignored  {ignored_fraction:.2%} of all pixels"
    add_legend(figure, names, dataset.palette, ignored=ignored, striped=True)
    return figure_to_array(figure)
