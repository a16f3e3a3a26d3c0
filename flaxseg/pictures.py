"""Drawing for people: labels in their colours, over a picture or alone, legends, and PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flaxseg.data.batch import IGNORE_LABEL

IGNORE_COLOUR = (230, 230, 230)

MAX_LEGEND = 23
"""A legend names the first so many classes."""

_STRIPE = 4
"""Pixels between the stripes over ignored pixels, and their width."""


def colourise(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns a label uint8[H, W] in colours, uint8[H, W, 3]; ignored pixels light grey."""
    colours = np.full((256, 3), IGNORE_COLOUR, np.uint8)
    colours[: len(palette)] = palette
    return colours[label]


def overlay(
    image: np.ndarray, label: np.ndarray, palette: Sequence[tuple[int, int, int]], *, opacity: float = 0.4
) -> np.ndarray:
    """Returns a picture with its label over it: classes tinted and outlined, ignored pixels striped in light grey.

    Args:
      image: uint8 or float32[H, W, C] of 0..255, shown as displayable() does.
      label: uint8[H, W].
      palette: a colour for each class.
      opacity: how much of the class's colour covers the picture, 0..1; outlines cover it wholly.

    Returns:
      uint8[H, W, 3].
    """
    colours = colourise(label, palette)
    rows, columns = np.indices(label.shape)
    striped = (label == IGNORE_LABEL) & ((rows + columns) // _STRIPE % 2 == 0)
    cover = np.where(_is_outline(label) | striped, 1.0, opacity)[..., None]
    return np.rint((1 - cover) * displayable(image) + cover * colours).astype(np.uint8)


def _is_outline(label: np.ndarray) -> np.ndarray:
    """bool[H, W]: whether a pixel beside, above or below has another label: both sides have lines of their colours."""
    outline = np.zeros(label.shape, bool)
    across, down = label[:, :-1] != label[:, 1:], label[:-1] != label[1:]
    outline[:, :-1] |= across
    outline[:, 1:] |= across
    outline[:-1] |= down
    outline[1:] |= down
    return outline


def displayable(image: np.ndarray) -> np.ndarray:
    """Returns any picture [H, W, C] of 0..255 as uint8[H, W, 3]: its first three channels, or the first as grey."""
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return shown if shown.dtype == np.uint8 else np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def add_legend(
    figure: Figure, class_names: Sequence[str], palette: Sequence[tuple[int, int, int]], *, ignored: str = "ignored",
    striped: bool = False,
) -> None:  # fmt: skip
    """Puts the classes' colours below a figure of constrained layout, and that of ignored pixels."""
    entries = list(zip(palette, class_names, strict=True))
    patches = [_patch(colour, name) for colour, name in entries[:MAX_LEGEND]]
    patches.append(_patch(IGNORE_COLOUR, ignored, hatch="////" if striped else ""))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6), fontsize=8)


def _patch(colour: tuple[int, int, int], name: str, hatch: str = "") -> Patch:
    # A leading underscore would hide the entry.
    text = f" {name}" if name.startswith("_") else name
    return Patch(facecolor=[v / 255 for v in colour], edgecolor="grey", label=as_written(text), hatch=hatch)


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
