"""Contact sheets: many small pictures with their labels over them, captions and a legend."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from flaxseg.data.decode.images import resize_image, resize_label
from flaxseg.data.types import SegmentationDataset
from flaxseg.report.drawing import add_legend, as_written, displayable, overlay, rendered

_COLUMNS = 4
_SIDE = 300
"""Pixels of the longer side of a picture on a sheet; smaller ones are enlarged by whole pixels."""

_LONGEST_CAPTION = 42


class Picture(NamedTuple):
    """A picture on a contact sheet."""

    shown: np.ndarray
    """uint8[h, w, 3], not larger than a sheet has room for."""
    caption: str


def picture(
    image: np.ndarray, label: np.ndarray | None, caption: str, palette: Sequence[tuple[int, int, int]]
) -> Picture:
    """Returns a picture [H, W, C] of 0..255 as small as a sheet shows it, with its label uint8[H, W] over it if any."""
    scale = min(_SIDE / max(image.shape[:2]), 1)
    size = (max(round(scale * image.shape[0]), 1), max(round(scale * image.shape[1]), 1))
    # Made small first, so that outlines are as thin in every picture.
    small = resize_image(image, size)
    shown = displayable(small) if label is None else overlay(small, resize_label(label, size), palette)
    short = caption if len(caption) <= _LONGEST_CAPTION else f"...{caption[3 - _LONGEST_CAPTION :]}"
    return Picture(shown, short)


def spread(index: np.ndarray, number: int) -> list[int]:
    """Returns up to `number` of the indices int[N], evenly over all of them, the first and last among them."""
    places = np.linspace(0, len(index) - 1, min(number, len(index))).round().astype(int)
    return [int(i) for i in index[places]]


def contact_sheet(
    pictures: Sequence[Picture], title: str, dataset: SegmentationDataset, shares: np.ndarray, ignored_share: float
) -> np.ndarray:
    """Returns a sheet of pictures in rows, with a legend of the classes and their shares.

    Args:
      pictures: what to show, at least one.
      title: stands above.
      dataset: its class names and colors are those of the legend.
      shares: float[K], each class's share of the pixels, 0..1.
      ignored_share: the ignored pixels' share of all, 0..1.

    Returns:
      uint8[H, W, 3].
    """
    rows = math.ceil(len(pictures) / _COLUMNS)
    # No cell is higher than wide: a few upright pictures would leave the others in empty space.
    tallest = max(min(p.shown.shape[0] / p.shown.shape[1], 1.0) for p in pictures)
    figure = Figure(figsize=(3.1 * _COLUMNS, (3.0 * tallest + 0.3) * rows + 1.2), dpi=100, layout="constrained")
    figure.suptitle(as_written(title), fontsize=11)
    for axis in (axes := figure.subplots(rows, _COLUMNS, squeeze=False)).flat:
        axis.set_axis_off()
    for axis, (shown, caption) in zip(axes.flat, pictures, strict=False):
        axis.imshow(shown, interpolation="nearest")
        axis.set_title(as_written(caption), fontsize=8)
    names = [f"{name}  {share:.2%}" for name, share in zip(dataset.class_names, shares, strict=True)]
    add_legend(figure, names, dataset.palette, ignored=f"ignored  {ignored_share:.2%} of all", striped=True)
    return rendered(figure)
