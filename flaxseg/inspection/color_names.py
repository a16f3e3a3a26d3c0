"""Names of colors, as first names of classes that only their colors are known of."""

import colorsys

from flaxseg.data.types import Color

_MIN_SATURATION = 32
"""Where red, green and blue differ by less than this, the color looks gray."""

_DARK, _LIGHT = 0.3, 0.6
"""The lightness, 0..1, below and above which a hue has a name of its own."""

_GRAYS = ((0.15, "black"), (0.85, "gray"), (1.0, "white"))
"""The largest lightness of each gray."""

_HUES = (
    (20, "red", "dark_red", "pink"),
    (45, "orange", "brown", "light_orange"),
    (70, "yellow", "olive", "light_yellow"),
    (165, "green", "dark_green", "light_green"),
    (195, "cyan", "teal", "light_cyan"),
    (255, "blue", "dark_blue", "light_blue"),
    (285, "violet", "dark_violet", "light_violet"),
    (335, "magenta", "purple", "pink"),
    (360, "red", "dark_red", "pink"),
)
"""The largest angle of each hue in degrees, and its name where the color is neither dark nor light, dark, and light."""


def color_name(color: Color) -> str:
    """Returns the name of a color by its hue and lightness: (64, 128, 64) is `green`, (128, 64, 0) `brown`."""
    hue, lightness, _ = colorsys.rgb_to_hls(*(channel / 255 for channel in color))
    if max(color) - min(color) < _MIN_SATURATION:
        return next(name for largest, name in _GRAYS if lightness <= largest)
    name, dark, light = next(names for largest, *names in _HUES if 360 * hue <= largest)
    return dark if lightness < _DARK else light if lightness > _LIGHT else name
