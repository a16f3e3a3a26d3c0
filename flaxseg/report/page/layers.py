"""Images of a report as data URIs: photographs, and transparent layers of classes and errors to lay over them."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from flaxseg.data.resize import resize_image, resize_label
from flaxseg.data.types import IGNORE_LABEL, Color
from flaxseg.report.drawing import IGNORE_COLOR, colorize, error_color, stripes, to_rgb, untinted

_SIDES = (400, 300, 220, 150)
"""The longest side of images; the next one is tried while a set of images is too large."""

_MAX_BYTES = 95_000
"""The size of an image with its three layers, before it is encoded as text."""

_MIN_SIDE = 240
"""Layers of smaller images are enlarged, so that their outlines are thin."""

_QUALITY = 82
_TINT, _VEIL = 120, 190
"""The opacity, 0..255, of the colors of classes, and of the veil over correct pixels."""

_VEIL_COLOR = (246, 246, 244)


def encode_layers(
    image: np.ndarray, label: np.ndarray, prediction: np.ndarray, palette: Sequence[Color]
) -> tuple[tuple[int, int], list[str]]:
    """Returns the height and width to draw with, and data URIs of an image, its label, prediction and errors.

    The last three are layers to lay over the image. Nothing is larger than 400 pixels, and together they have at most
    about 95 kB, if need be at a lower resolution.

    Args:
      image: uint8 or float32[H, W, C] in 0..255.
      label: uint8[h, w], class indices or IGNORE_LABEL.
      prediction: uint8[h', w'], class indices.
      palette: one color per class.
    """
    wrong = error_color(palette)
    for side in _SIDES:
        size = _fitting(label.shape, side)
        small = (min(size[0], image.shape[0]), min(size[1], image.shape[1]))
        shown, predicted = resize_label(label, size), resize_label(prediction, size)
        files = [_jpeg(to_rgb(resize_image(image, small)))]
        layers = (class_layer(shown, palette), class_layer(predicted, palette), error_layer(shown, predicted, wrong))
        files += [png(layer) for layer in layers]
        if sum(map(len, files)) <= _MAX_BYTES:
            break
    kinds = ("jpeg", "png", "png", "png")
    return size, [
        f"data:image/{kind};base64,{base64.b64encode(file).decode()}" for kind, file in zip(kinds, files, strict=True)
    ]


def class_layer(label: np.ndarray, palette: Sequence[Color]) -> np.ndarray:
    """Returns tinted, outlined classes and striped ignored pixels, uint8[H, W, 4], as `drawing.overlay` shows them.

    Args:
      label: uint8[H, W], class indices or IGNORE_LABEL.
      palette: one color per class.
    """
    alpha = np.where(_outline(label), 255, np.where(untinted(label, palette), 0, _TINT))
    return _with_stripes(np.dstack([colorize(label, palette), alpha]).astype(np.uint8), label == IGNORE_LABEL)


def error_layer(label: np.ndarray, prediction: np.ndarray, color: Color) -> np.ndarray:
    """Returns wrong pixels in a color, a veil over correct ones, and striped ignored pixels, uint8[H, W, 4].

    Args:
      label: uint8[H, W], class indices or IGNORE_LABEL.
      prediction: uint8[H, W], class indices.
      color: that of wrong pixels, as from `error_color`.
    """
    wrong = (label != prediction)[..., None]
    layer = np.where(wrong, np.array([*color, 235]), np.array([*_VEIL_COLOR, _VEIL])).astype(np.uint8)
    return _with_stripes(layer, label == IGNORE_LABEL)


def png(layer: np.ndarray) -> bytes:
    """Returns uint8[H, W, 4] as a PNG file, with a palette where it has at most 256 colors."""
    colors, index = np.unique(np.ascontiguousarray(layer).view("<u4")[..., 0], return_inverse=True)
    buffer = io.BytesIO()
    if len(colors) > 256:
        Image.fromarray(layer).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()
    channels = colors.view(np.uint8).reshape(-1, 4)
    image = Image.fromarray(index.reshape(layer.shape[:2]).astype(np.uint8))
    image.putpalette(np.ascontiguousarray(channels[:, :3]).tobytes())
    image.save(buffer, "PNG", optimize=True, transparency=channels[:, 3].tobytes())
    return buffer.getvalue()


def _with_stripes(layer: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Replaces ignored pixels by diagonal stripes of light gray and of none."""
    layer[ignored] = (*IGNORE_COLOR, 0)
    layer[ignored & stripes(ignored.shape), 3] = 255
    return layer


def _outline(label: np.ndarray) -> np.ndarray:
    """Returns bool[H, W]: True where the right or lower neighbor has another label."""
    outline = np.zeros(label.shape, bool)
    outline[:, :-1] |= label[:, :-1] != label[:, 1:]
    outline[:-1] |= label[:-1] != label[1:]
    return outline


def _fitting(size: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Returns height and width with the same ratio, between `_MIN_SIDE` and `longest`; enlarged by an integer."""
    factor = min(1.0, longest / max(size))
    if max(size) < min(_MIN_SIDE, longest):
        factor = min(_MIN_SIDE, longest) // max(size) or 1
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
