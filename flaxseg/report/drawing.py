"""Drawing for people: labels in their colors, over a picture or alone, legends, and PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flaxseg.data.types import IGNORE_LABEL

IGNORE_COLOR = (230, 230, 230)

MAX_LEGEND = 23
"""A legend names the first so many classes."""

_STRIPE = 4
"""Pixels between the stripes over ignored pixels, and their width."""


def colorise(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns a label uint8[H, W] in colors, uint8[H, W, 3]; ignored pixels light gray."""
    colors = np.full((256, 3), IGNORE_COLOR, np.uint8)
    colors[: len(palette)] = palette
    return colors[label]


def overlay(
    image: np.ndarray, label: np.ndarray, palette: Sequence[tuple[int, int, int]], *, opacity: float = 0.4
) -> np.ndarray:
    """Returns a picture with its label over it: classes tinted and outlined, ignored pixels striped in light gray.

    Args:
      image: uint8 or float32[H, W, C] of 0..255, shown as displayable() does.
      label: uint8[H, W].
      palette: a color for each class.
      opacity: how much of the class's color covers the picture, 0..1; outlines cover it wholly.

    Returns:
      uint8[H, W, 3].
    """
    colors = colorise(label, palette)
    rows, columns = np.indices(label.shape)
    striped = (label == IGNORE_LABEL) & ((rows + columns) // _STRIPE % 2 == 0)
    cover = np.where(_is_outline(label) | striped, 1.0, opacity)[..., None]
    return np.rint((1 - cover) * displayable(image) + cover * colors).astype(np.uint8)


def _is_outline(label: np.ndarray) -> np.ndarray:
    """bool[H, W]: whether a pixel beside, above or below has another label: both sides have lines of their colors."""
    outline = np.zeros(label.shape, bool)
    across, down = label[:, :-1] != label[:, 1:], label[:-1] != label[1:]
    outline[:, :-1] |= across
    outline[:, 1:] |= across
    outline[:-1] |= down
    outline[1:] |= down
    return outline


def displayable(image: np.ndarray) -> np.ndarray:
    """Returns any picture [H, W, C] of 0..255 as uint8[H, W, 3]: its first three channels, or the first as gray."""
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return shown if shown.dtype == np.uint8 else np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def add_legend(
    figure: Figure, class_names: Sequence[str], palette: Sequence[tuple[int, int, int]], *, ignored: str = "ignored",
    striped: bool = False,
) -> None:  # fmt: skip
    """Puts the classes' colors below a figure of constrained layout, and that of ignored pixels."""
    entries = list(zip(palette, class_names, strict=True))
    patches = [_patch(color, name) for color, name in entries[:MAX_LEGEND]]
    patches.append(_patch(IGNORE_COLOR, ignored, hatch="////" if striped else ""))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6), fontsize=8)


def _patch(color: tuple[int, int, int], name: str, hatch: str = "") -> Patch:
    # A leading underscore would hide the entry.
    text = f" {name}" if name.startswith("_") else name
    return Patch(facecolor=[v / 255 for v in color], edgecolor="gray", label=as_written(text), hatch=hatch)


def as_written(text: str) -> str:
    """Returns a text so that a figure shows it as it is; a pair of dollars would be taken for a formula."""
    return text.replace("$", r"\$")


def rendered(figure: Figure) -> np.ndarray:
    """Returns a figure as uint8[H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(path: Path, picture: np.ndarray) -> None:
    """Writes a picture uint8[H, W, 3] as a PNG file."""
    from PIL import Image

    Image.fromarray(picture).save(path)
