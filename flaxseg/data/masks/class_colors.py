"""Conversion of the colors in a mask to class indices."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flaxseg.data.masks.class_values import INTERPOLATED
from flaxseg.data.types import IGNORE_LABEL, Color
from flaxseg.errors import ArgumentError, DataError, UnknownColors, number_of

_MAX_SHOWN = 8
_MAX_CLASSES_SHOWN = 24
_MAX_COUNTED = 64


@dataclasses.dataclass(frozen=True)
class ClassColors:
    """The color of each class in a mask.

    Attributes:
      colors: the color of each class.
      ignore_colors: colors of ignored pixels.

    Raises:
      ArgumentError: no color, a value that is not a color, or a color given twice.
    """

    colors: tuple[Color, ...]
    ignore_colors: tuple[Color, ...] = ()

    def __post_init__(self) -> None:
        for argument in ("colors", "ignore_colors"):
            colors = getattr(self, argument)
            wrong = [color for color in colors if len(color) != 3 or not all(0 <= c <= 255 for c in color)]
            if wrong:
                raise ArgumentError(
                    argument, colors, f"must be colors (red, green, blue) in 0..255, but {wrong[0]} is not one"
                )
        if not self.colors:
            raise ArgumentError("colors", self.colors, "must have one color (red, green, blue) per class")
        everything = [*self.colors, *self.ignore_colors]
        repeated = sorted({color for color in everything if everything.count(color) > 1})
        if repeated:
            raise ArgumentError(
                "colors",
                self.colors,
                f"repeats {_format_colors(repeated)} give each color once in `colors` or `ignore_colors`",
            )

    def to_classes(self, mask: np.ndarray, *, name: str) -> np.ndarray:
        """Returns the class index of each pixel, or IGNORE_LABEL.

        Args:
          mask: uint8[H, W, 3], or [H, W, 4] with transparency, which is dropped.
          name: the name of the mask, for messages.

        Returns:
          uint8[H, W].

        Raises:
          UnknownColors: the mask contains colors that are neither in `colors` nor in `ignore_colors`; a DataError.
          DataError: the mask is not an 8-bit color image.
        """
        if mask.dtype != np.uint8 or mask.shape[2] not in (3, 4):
            raise DataError(
                f"{name}: has {number_of(mask.shape[2], 'channel')} of {mask.dtype}, but `colors` requires 8-bit RGB "
                "masks; leave `colors` out, or export the mask as RGB"
            )
        keys = _pack(np.array([*self.colors, *self.ignore_colors], np.uint8))
        classes = np.full(len(keys), IGNORE_LABEL, np.uint8)
        classes[: len(self.colors)] = np.arange(len(self.colors))
        order = np.argsort(keys)
        packed = _pack(mask)
        position = np.searchsorted(keys[order], packed).clip(max=len(keys) - 1)
        unknown = keys[order][position] != packed
        if unknown.any():
            occurring = [
                self.colors[index]
                for index in np.unique(classes[order][position[~unknown]])
                if index < len(self.colors)
            ]
            raise self._unknown_colors_error(packed[unknown], packed.size, occurring, name)
        return classes[order][position]

    def _unknown_colors_error(
        self, unknown: np.ndarray, num_pixels: int, occurring: Sequence[Color], name: str
    ) -> UnknownColors:
        counts, number = _most_frequent(unknown)
        rest = f" and {number - _MAX_SHOWN:,} more" if number > _MAX_SHOWN else ""
        return UnknownColors(
            f"{name}: {unknown.size / num_pixels:.2%} of its pixels have colors that belong to no class: "
            f"{_listed(list(counts)[:_MAX_SHOWN])}{rest}",
            remedy=f". The classes have {_listed(self.colors[:_MAX_CLASSES_SHOWN])}; add each other color to `colors` "
            "(a class) or to `ignore_colors`, or correct `colors`" + (INTERPOLATED if number > _MAX_SHOWN else ""),
            counts=counts,
            colors=self.colors,
            occurring=occurring,
            ignore_colors=self.ignore_colors,
        )


def colored_mask_error(mask: np.ndarray, *, name: str) -> UnknownColors:
    """Returns the error about a colored mask, uint8[H, W, 3], where the colors of the classes are not given."""
    counts, number = _most_frequent(_pack(mask))
    rest = f", the most frequent of the {number:,} in this file" if number > _MAX_SHOWN else ", all in this file"
    return UnknownColors(
        f"{name}: is a color image, but a mask has one number per pixel. If each class has its own color, name the "
        f"colors: folder(colors=({_format_colors(list(counts)[:_MAX_SHOWN])})){rest}, with `ignore_colors` for those "
        "of ignored pixels. Otherwise convert the masks to gray or palette PNG files whose values are class indices",
        counts=counts,
    )


def _pack(colors: np.ndarray) -> np.ndarray:
    """Packs uint8[..., 3] into int32[...]: red, green and blue as one number."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _most_frequent(packed: np.ndarray) -> tuple[Mapping[Color, int], int]:
    """Returns the most frequent colors with their numbers of pixels, in descending order, and the number of colors."""
    found, pixels = np.unique(packed, return_counts=True)
    most = np.argsort(-pixels, kind="stable")[:_MAX_COUNTED]
    pairs = zip(found[most].tolist(), pixels[most].tolist(), strict=True)
    return {(color >> 16, color >> 8 & 255, color & 255): number for color, number in pairs}, len(found)


def _listed(colors: Sequence[Color]) -> str:
    return ", ".join(f"({red},{green},{blue})" for red, green, blue in colors)


def _format_colors(colors: Sequence[Color]) -> str:
    # A comma after the last color makes a single one a sequence in Python, too.
    return "".join(f"({red},{green},{blue})," for red, green, blue in colors)
