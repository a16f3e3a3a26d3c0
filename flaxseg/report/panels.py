"""Panels of images with labels and predictions drawn over them, at the images' own resolution."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flaxseg.data.resize import resize_image, resize_label
from flaxseg.data.types import Example
from flaxseg.report.drawing import append_legend, drawable, error_color, error_map, font, overlay, to_rgb

MAX_SIDE = 1024
"""The largest height and width of an image in a panel, in pixels; larger ones are reduced."""

_MIN_SIDE = 192
"""Images are enlarged by the largest whole factor at which neither side exceeds this number of pixels."""

_GAP = 4
"""Pixels between the images of a panel."""

_PER_LINE = 4
"""The images of a training batch that are side by side."""

Palette = Sequence[tuple[int, int, int]]


class Predicted(NamedTuple):
    """An image with its label and its prediction, all of the same height and width."""

    image: np.ndarray
    """uint8 or float32[H, W, C] of values in 0..255."""
    label: np.ndarray
    """uint8[H, W]"""
    prediction: np.ndarray
    """uint8[H, W]"""
    title: str


def prediction_panel(
    examples: Sequence[Predicted], class_names: Sequence[str], palette: Palette, *, errors: bool = False
) -> np.ndarray:
    """Returns a panel with one line per example: its image, and its label and prediction drawn over it.

    Args:
      examples: at least one example.
      class_names: one name per class, for the legend.
      palette: one RGB color per class, each channel in 0..255.
      errors: whether a map of the wrong pixels follows; see `drawing.error_map`.

    Returns:
      uint8[height, width, 3].
    """
    lines, wrong = [], error_color(palette)
    for example in examples:
        image, label, prediction = _at_panel_size(example.image, example.label, example.prediction)
        tiles = [to_rgb(image), overlay(image, label, palette), overlay(image, prediction, palette)]
        tiles += [error_map(image, label, prediction, wrong)] if errors else []
        lines.append(_Line(tiles, example.title))
    heads = ("image", "label", "prediction", "errors")[: 4 if errors else 3]
    return _panel(lines, heads, class_names, palette, others={"wrong": wrong} if errors else {})


def hardest_panel(
    examples: Sequence[tuple[Example, float]], class_names: Sequence[str], palette: Palette
) -> np.ndarray:
    """Returns a panel with one line per example: its image, and its label drawn over it.

    Args:
      examples: examples with their losses; the title of each line gives the id and the loss.
      class_names: one name per class, for the legend.
      palette: one RGB color per class, each channel in 0..255.

    Returns:
      uint8[height, width, 3].
    """
    lines = []
    for example, loss in examples:
        image, label = _at_panel_size(example["image"], example["label"])
        tiles = [to_rgb(image), overlay(image, label, palette)]
        lines.append(_Line(tiles, f"{example['id']}: loss {loss:.3g}"))
    return _panel(lines, ("image", "label"), class_names, palette)


def batch_panel(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], palette: Palette) -> np.ndarray:
    """Returns a panel of a training batch: lines of images, each above the same images with their labels.

    Args:
      images: uint8 or float32[N, H, W, C] of values in 0..255.
      labels: uint8[N, H, W].
      class_names: one name per class, for the legend.
      palette: one RGB color per class, each channel in 0..255.

    Returns:
      uint8[height, width, 3].
    """
    lines = []
    for first in range(0, len(images), _PER_LINE):
        group = slice(first, first + _PER_LINE)
        shown = [_at_panel_size(*pair) for pair in zip(images[group], labels[group], strict=True)]
        lines.append(_Line([to_rgb(image) for image, _ in shown]))
        lines.append(_Line([overlay(image, label, palette) for image, label in shown]))
    return _panel(lines, (), class_names, palette)


class _Line(NamedTuple):
    """Images side by side, below an optional title."""

    tiles: Sequence[np.ndarray]
    title: str = ""


def _at_panel_size(image: np.ndarray, *labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns an image and its labels reduced or enlarged to a size at which they are shown."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest > MAX_SIDE:
        size = tuple(max(1, round(side * MAX_SIDE / longest)) for side in (height, width))
        return (resize_image(image, size), *(resize_label(label, size) for label in labels))  # type: ignore[arg-type]
    factor = max(1, _MIN_SIDE // longest)
    return tuple(array.repeat(factor, 0).repeat(factor, 1) for array in (image, *labels))


def _panel(
    lines: Sequence[_Line],
    heads: Sequence[str],
    class_names: Sequence[str],
    palette: Palette,
    *,
    others: Mapping[str, tuple[int, int, int]] = MappingProxyType({}),
) -> np.ndarray:
    """Returns lines below each other in aligned columns, the heads of the columns above them, and a legend."""
    columns = itertools.zip_longest(*(line.tiles for line in lines), fillvalue=np.zeros((0, 0, 3), np.uint8))
    widths = [max(tile.shape[1] for tile in column) for column in columns]
    lefts = [_GAP + sum(widths[:index]) + index * _GAP for index in range(len(widths))]
    width = lefts[-1] + widths[-1] + _GAP
    size = min(max(width // 70, 13), 28)  # Large panels are usually shown reduced.
    parts = [_text_strip(list(zip(lefts, widths, heads, strict=True)), width, size)] if heads else []
    for line in lines:
        if line.title:
            parts.append(_text_strip([(_GAP, width - 2 * _GAP, line.title)], width, size))
        strip = np.full((max(tile.shape[0] for tile in line.tiles) + _GAP, width, 3), 255, np.uint8)
        for left, tile in zip(lefts, line.tiles, strict=False):
            strip[: tile.shape[0], left : left + tile.shape[1]] = tile
        parts.append(strip)
    return append_legend(np.concatenate(parts), class_names, palette, others=others, ignored="ignored", size=size)


def _text_strip(texts: Sequence[tuple[int, int, str]], width: int, size: int) -> np.ndarray:
    """Returns a white strip with texts, each given with its left edge and the width that it may have."""
    strip = Image.new("RGB", (width, round(1.5 * size)), "white")
    draw = ImageDraw.Draw(strip)
    for left, room, text in texts:
        shown = _shortened(drawable(text), room, font(size))
        draw.text((left, 0.1 * size), shown, fill="black", font=font(size))
    return np.asarray(strip)


def _shortened(text: str, room: int, text_font: ImageFont.FreeTypeFont) -> str:
    """Returns the text, without its beginning if it is too long: names of files differ at their ends."""
    if text_font.getlength(text) <= room:
        return text
    while text and text_font.getlength(f"…{text}") > room:
        text = text[1:]
    return f"…{text}"
