"""Drawing labels in the colors of their classes, legends, and PNG files."""

import functools
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flaxseg.data.types import IGNORE_LABEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

IGNORE_COLOR = (230, 230, 230)
"""The light gray of ignored pixels."""

MAX_LEGEND = 23
"""The largest number of classes in a legend; further ones are omitted."""

_ERROR_COLORS = ((255, 0, 90), (0, 215, 255), (255, 220, 0), (120, 255, 0))
"""The colors of wrong pixels, in the order of preference; see `error_color`."""

_DISTINCT = 120
"""The Euclidean distance of RGB colors, 0..442, at which they are easy to tell apart."""

_UNDRAWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that fonts lack; a line break even makes Pillow raise an error."""

_NEARLY_BLACK = 48
"""The largest channel of a color of class 0 that overlays leave out."""

_STRIPE = 4
"""Width in pixels of the stripes over ignored pixels, and of the gaps between them."""


def colorize(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns a label map in the colors of its classes; ignored pixels are light gray.

    Args:
      label: uint8[H, W].
      palette: one RGB color per class, each channel in 0..255.

    Returns:
      uint8[H, W, 3].
    """
    colors = np.full((256, 3), IGNORE_COLOR, np.uint8)
    colors[: len(palette)] = palette
    return colors[label]


def overlay(
    image: np.ndarray, label: np.ndarray, palette: Sequence[tuple[int, int, int]], *, opacity: float = 0.4
) -> np.ndarray:
    """Returns an image with its label drawn over it: tinted, outlined classes and striped ignored pixels.

    If the color of class 0 is black or nearly so, as that of a background usually is, its pixels are not tinted.

    Args:
      image: uint8 or float32[H, W, C] of values in 0..255, converted by `to_rgb`.
      label: uint8[H, W].
      palette: one RGB color per class, each channel in 0..255.
      opacity: opacity of the class colors inside the outlines, 0..1; the outlines are opaque. At 1, only the colors of
        all classes are shown.

    Returns:
      uint8[H, W, 3].
    """
    colors = colorize(label, palette)
    striped = (label == IGNORE_LABEL) & stripes(label.shape)
    tint = np.where(untinted(label, palette), 0.0, opacity) if opacity < 1 else 1.0
    alpha = np.where(_outline(label) | striped, 1.0, tint)[..., None]
    return np.rint((1 - alpha) * to_rgb(image) + alpha * colors).astype(np.uint8)


def error_color(palette: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Returns a color for wrong pixels that differs from those of the classes, as far as possible."""
    classes = np.asarray(palette, float).reshape(-1, 3)
    distances = [np.linalg.norm(classes - color, axis=1).min(initial=np.inf) for color in _ERROR_COLORS]
    distinct = [color for color, distance in zip(_ERROR_COLORS, distances, strict=True) if distance >= _DISTINCT]
    return distinct[0] if distinct else _ERROR_COLORS[int(np.argmax(distances))]


def error_map(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Returns a dark gray image in which wrong pixels have a color, and ignored pixels are striped.

    Args:
      image: uint8 or float32[H, W, C] of values in 0..255, converted by `to_rgb`.
      label: uint8[H, W].
      prediction: uint8[H, W].
      color: that of wrong pixels, as from `error_color`.

    Returns:
      uint8[H, W, 3].
    """
    gray = to_rgb(image).mean(-1, keepdims=True) / 2
    ignored = label == IGNORE_LABEL
    shown = np.where(((prediction != label) & ~ignored)[..., None], color, np.rint(gray))
    return np.where((ignored & stripes(label.shape))[..., None], IGNORE_COLOR, shown).astype(np.uint8)


def untinted(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Returns bool[H, W]: the pixels of class 0 if its color is nearly black, which would darken the whole image.

    Args:
      label: uint8[H, W].
      palette: one RGB color per class, each channel in 0..255.
    """
    return (label == 0) & (max(palette[0]) <= _NEARLY_BLACK)


def stripes(shape: tuple[int, ...]) -> np.ndarray:
    """Returns bool[H, W]: the diagonal stripes that are drawn over ignored pixels.

    Args:
      shape: (H, W).
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows + columns) // _STRIPE % 2 == 0


def _outline(label: np.ndarray) -> np.ndarray:
    """Returns bool[H, W]: True where the left, right, upper or lower neighbor has another label."""
    outline = np.zeros(label.shape, bool)
    across, down = label[:, :-1] != label[:, 1:], label[:-1] != label[1:]
    outline[:, :-1] |= across
    outline[:, 1:] |= across
    outline[:-1] |= down
    outline[1:] |= down
    return outline


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Returns an image with any number of channels as uint8[H, W, 3] for display.

    Args:
      image: uint8 or float[H, W, C] of values in 0..255. Of three or more channels the first three are shown as red,
        green and blue; otherwise the first is shown as gray. Floats are clipped to 0..255 and rounded.
    """
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return shown if shown.dtype == np.uint8 else np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def add_legend(
    figure: "Figure", class_names: Sequence[str], palette: Sequence[tuple[int, int, int]], *, ignored: str = "ignored",
    striped: bool = False,
) -> None:  # fmt: skip
    """Adds a legend of the class colors below the axes of a figure with constrained layout.

    Args:
      figure: the figure to draw on.
      class_names: one name per class; the first `MAX_LEGEND` are shown.
      palette: one RGB color per class, each channel in 0..255.
      ignored: the text for the color of ignored pixels.
      striped: whether the color of ignored pixels is hatched, as `overlay` draws them.
    """
    entries = list(zip(palette, class_names, strict=True))
    patches = [_patch(color, name) for color, name in entries[:MAX_LEGEND]]
    patches.append(_patch(IGNORE_COLOR, ignored, hatch="////" if striped else ""))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6), fontsize=8)


def append_legend(
    image: np.ndarray,
    class_names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    *,
    others: Mapping[str, tuple[int, int, int]] = MappingProxyType({}),
    ignored: str = "",
    size: int = 12,
) -> np.ndarray:
    """Returns an image with a legend of the class colors below it, whose pixels are otherwise unchanged.

    Args:
      image: uint8[H, W, 3].
      class_names: one name per class; the first `MAX_LEGEND` are shown.
      palette: one RGB color per class, each channel in 0..255.
      others: further colors by their names, which follow the classes.
      ignored: the text for ignored pixels, whose patch is striped; "": none.
      size: the size of the text, and of the patches, in pixels.

    Returns:
      uint8[H + h, W, 3].
    """
    entries = [*zip(map(drawable, class_names[:MAX_LEGEND]), palette, strict=False), *others.items()]
    entries += [(ignored, IGNORE_COLOR)] if ignored else []
    text_font, gap, width = font(size), size // 2, image.shape[1]
    places, x, y = [], gap, gap
    for name, _ in entries:
        length = size + gap + math.ceil(text_font.getlength(name)) + 2 * gap
        if x > gap and x + length > width:
            x, y = gap, y + size + gap
        places.append((x, y))
        x += length
    strip = Image.new("RGB", (width, y + size + gap + 2), "white")
    draw = ImageDraw.Draw(strip)
    for (x, y), (name, color) in zip(places, entries, strict=True):
        draw.rectangle((x, y, x + size, y + size), fill=tuple(color), outline="gray")
        draw.text((x + size + gap, y - 1), name, fill="black", font=text_font)
    if ignored:
        x, y = places[-1]
        dark = Image.fromarray(~stripes((size - 1, size - 1)))
        strip.paste((110, 110, 110), (x + 1, y + 1), dark)
    return np.concatenate([image, np.asarray(strip)])


def drawable(text: str) -> str:
    """Returns a text with U+FFFD for line breaks, control characters and lone surrogates, which cannot be drawn."""
    return _UNDRAWABLE.sub("\ufffd", text)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Returns Matplotlib's font in a size in pixels; that of Pillow lacks most letters beyond ASCII."""
    import matplotlib  # It takes long to load.

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _patch(color: tuple[int, int, int], name: str, hatch: str = "") -> "Patch":
    # Matplotlib hides legend entries whose text starts with an underscore.
    text = f" {name}" if name.startswith("_") else name
    from matplotlib.patches import Patch

    return Patch(facecolor=[v / 255 for v in color], edgecolor="gray", label=escape_math(text), hatch=hatch)


def escape_math(text: str) -> str:
    """Returns a text with its dollar signs escaped, so that Matplotlib does not parse it as a formula."""
    return text.replace("$", r"\$")


def new_figure(*, width: float, height: float) -> "Figure":
    """Returns an empty figure that fits its parts together.

    Args:
      width: in hundreds of pixels.
      height: in hundreds of pixels.
    """
    from matplotlib.figure import Figure  # Matplotlib takes long to load.

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def figure_to_array(figure: "Figure") -> np.ndarray:
    """Renders a figure and returns its pixels, uint8[H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def encode_png(image: np.ndarray | Image.Image, **options: Any) -> bytes:
    """Returns the PNG file of an image.

    Args:
      image: uint8[H, W, 3] or uint8[H, W], or one of Pillow's images.
      **options: those of Pillow's writer of PNG files.
    """
    given = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    # A third of the default level's time, for files a tenth larger.
    given.save(buffer, "PNG", compress_level=3, **options)
    return buffer.getvalue()


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes an image, uint8[H, W, 3], to a PNG file."""
    path.write_bytes(encode_png(image))
