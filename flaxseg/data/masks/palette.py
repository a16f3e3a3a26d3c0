"""The display colors of the classes of a dataset that defines none."""

from flaxseg.data.types import Color

_BACKGROUND = (40, 40, 48)

_CYCLE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (255, 255, 255),
    (128, 60, 20),
    (150, 220, 140),
    (110, 64, 170),
    (250, 180, 160),
    (0, 80, 70),
    (180, 180, 190),
    (160, 0, 60),
    (170, 240, 240),
    (100, 110, 40),
    (255, 90, 130),
    (60, 70, 140),
    (210, 190, 120),
    (190, 130, 255),
    (120, 120, 130),
    (70, 200, 60),
    (90, 30, 60),
)
"""The first seven can be distinguished with every common color blindness (Okabe and Ito, "Color Universal Design",
2008); the others alternate in lightness, so that neighbors differ even without hue."""


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Returns a color per class: a dark one for class 0, then a cycle of 24 that gets darker with each round.

    Returns:
      `num_classes` distinct `(red, green, blue)` in 0..255, up to 255 of them.
    """
    return tuple(_color(index) for index in range(num_classes))


def _color(index: int) -> Color:
    if index == 0:
        return _BACKGROUND
    round_index, position = divmod(index - 1, len(_CYCLE))
    red, green, blue = _CYCLE[position]
    brightness = 0.92**round_index
    return round(red * brightness), round(green * brightness), round(blue * brightness)
