"""From the colors that mask files hold to class indices."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import DataError, UnknownColors

Color = tuple[int, int, int]
"""(red, green, blue), each 0..255."""

_MOST_SHOWN = 8
_MOST_COUNTED = 64


@dataclasses.dataclass(frozen=True)
class ClassColors:
    """Which color of a mask stands for which class.

    Attributes:
      colors: `colors[i]` is the color of class i.
      ignore_colors: colors of pixels that nothing counts.

    Raises:
      DataError: no color, what is no color, or one given twice.
    """

    colors: tuple[Color, ...]
    ignore_colors: tuple[Color, ...] = ()

    def __post_init__(self) -> None:
        everything = [*self.colors, *self.ignore_colors]
        wrong = [color for color in everything if len(color) != 3 or not all(0 <= c <= 255 for c in color)]
        twice = sorted({color for color in everything if everything.count(color) > 1})
        if wrong or twice or not self.colors:
            problem = f"{wrong[0]} is none" if wrong else f"{_text(twice)} is there twice" if twice else "there is none"
            raise DataError(
                "data.options.colors and data.options.ignore_colors have to name colors (red, green, blue) of "
                f"0..255, each once, and one for each class: {problem}"
            )

    def to_classes(self, mask: np.ndarray, *, name: str) -> np.ndarray:
        """The class index of each pixel, or IGNORE_LABEL.

        Args:
          mask: uint8[H, W, 3], or [H, W, 4] with transparency, which is dropped.
          name: what a message calls it.

        Returns:
          uint8[H, W].

        Raises:
          UnknownColors: the mask holds colors that are not named; a DataError.
          DataError: it holds no colors.
        """
        if mask.dtype != np.uint8 or mask.shape[2] not in (3, 4):
            raise DataError(
                f"{name}: has {mask.shape[2]} channel(s) of another kind than RGB of 8 bits; data.options.colors is "
                "for colored masks: leave it out, or export the mask as RGB"
            )
        keys = _packed(np.array([*self.colors, *self.ignore_colors], np.uint8))
        classes = np.full(len(keys), IGNORE_LABEL, np.uint8)
        classes[: len(self.colors)] = np.arange(len(self.colors))
        order = np.argsort(keys)
        found = _packed(mask)
        place = np.searchsorted(keys[order], found).clip(max=len(keys) - 1)
        unknown = keys[order][place] != found
        if unknown.any():
            self._raise_unknown(found[unknown], found.size, name)
        return classes[order][place]

    def _raise_unknown(self, unknown: np.ndarray, size: int, name: str) -> None:
        counts, number = _most_frequent(unknown)
        rest = f" and {number - _MOST_SHOWN:,} more" if number > _MOST_SHOWN else ""
        raise UnknownColors(
            f"{name}: {unknown.size / size:.2%} of its pixels have colors that belong to no class: {_shown(counts)}"
            f"{rest}. Classes have {_text(self.colors[:24])}; name each further color in data.options.colors (a "
            "class) or data.options.ignore_colors. Many colors along edges come from masks that were resized "
            "smoothly or saved as JPEG: export those again",
            counts=counts,
            colors=self.colors,
            ignore_colors=self.ignore_colors,
        )


def without_table(mask: np.ndarray, *, name: str) -> UnknownColors:
    """The error about a colored mask, uint8[H, W, 3], where no colors are named."""
    counts, number = _most_frequent(_packed(mask))
    rest = f", the most frequent of the {number:,} in this file" if number > _MOST_SHOWN else ", all in this file"
    return UnknownColors(
        f"{name}: is a colored picture, but a mask holds one number a pixel. If each class has a color of its own, "
        f"name them (of the dataset folder): --config.data.options.colors='({_shown(counts)})'{rest} (and "
        "--config.data.options.ignore_colors for those that nothing counts). Otherwise convert the masks to gray or "
        "palette PNG files whose values are class indices",
        counts=counts,
    )


def _packed(colors: np.ndarray) -> np.ndarray:
    """uint8[..., 3] to int32[...]: red, green and blue as one number."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _most_frequent(packed: np.ndarray) -> tuple[dict[Color, int], int]:
    """The most frequent colors with their pixels, the most first, and how many colors there are."""
    found, pixels = np.unique(packed, return_counts=True)
    most = np.argsort(-pixels, kind="stable")[:_MOST_COUNTED]
    pairs = zip(found[most].tolist(), pixels[most].tolist(), strict=True)
    return {(color >> 16, color >> 8 & 255, color & 255): number for color, number in pairs}, len(found)


def _shown(counts: Mapping[Color, int]) -> str:
    return _text(list(counts)[:_MOST_SHOWN])


def _text(colors: Sequence[Color]) -> str:
    # With the comma after the last, one color is a sequence of one too.
    return "".join(f"({red},{green},{blue})," for red, green, blue in colors)
