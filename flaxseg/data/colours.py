"""From the colours that mask files hold to class indices."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flaxseg.data.batch import IGNORE_LABEL
from flaxseg.errors import DataError, UnknownColours

Colour = tuple[int, int, int]
"""(red, green, blue), each 0..255."""

_MOST_SHOWN = 8
_MOST_COUNTED = 64


@dataclasses.dataclass(frozen=True)
class ClassColours:
    """Which colour of a mask stands for which class.

    Attributes:
      colours: `colours[i]` is the colour of class i.
      ignore_colours: colours of pixels that nothing counts.

    Raises:
      DataError: no colour, what is no colour, or one given twice.
    """

    colours: tuple[Colour, ...]
    ignore_colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        everything = [*self.colours, *self.ignore_colours]
        wrong = [colour for colour in everything if len(colour) != 3 or not all(0 <= c <= 255 for c in colour)]
        twice = sorted({colour for colour in everything if everything.count(colour) > 1})
        if wrong or twice or not self.colours:
            problem = f"{wrong[0]} is none" if wrong else f"{_text(twice)} is there twice" if twice else "there is none"
            raise DataError(
                "data.options.colours and data.options.ignore_colours have to name colours (red, green, blue) of "
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
          UnknownColours: the mask holds colours that are not named; a DataError.
          DataError: it holds no colours.
        """
        if mask.dtype != np.uint8 or mask.shape[2] not in (3, 4):
            raise DataError(
                f"{name}: has {mask.shape[2]} channel(s) of another kind than RGB of 8 bits; data.options.colours is "
                "for coloured masks: leave it out, or export the mask as RGB"
            )
        keys = _packed(np.array([*self.colours, *self.ignore_colours], np.uint8))
        classes = np.full(len(keys), IGNORE_LABEL, np.uint8)
        classes[: len(self.colours)] = np.arange(len(self.colours))
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
        raise UnknownColours(
            f"{name}: {unknown.size / size:.2%} of its pixels have colours that belong to no class: {_shown(counts)}"
            f"{rest}. Classes have {_text(self.colours[:24])}; name each further colour in data.options.colours (a "
            "class) or data.options.ignore_colours. Many colours along edges come from masks that were resized "
            "smoothly or saved as JPEG: export those again",
            counts=counts,
            colours=self.colours,
            ignore_colours=self.ignore_colours,
        )


def without_table(mask: np.ndarray, *, name: str) -> UnknownColours:
    """The error about a coloured mask, uint8[H, W, 3], where no colours are named."""
    counts, number = _most_frequent(_packed(mask))
    rest = f", the most frequent of the {number:,} in this file" if number > _MOST_SHOWN else ", all in this file"
    return UnknownColours(
        f"{name}: is a coloured picture, but a mask holds one number a pixel. If each class has a colour of its own, "
        f"name them (of the data set folder): --config.data.options.colours='({_shown(counts)})'{rest} (and "
        "--config.data.options.ignore_colours for those that nothing counts). Otherwise convert the masks to grey or "
        "palette PNG files whose values are class indices",
        counts=counts,
    )


def _packed(colours: np.ndarray) -> np.ndarray:
    """uint8[..., 3] to int32[...]: red, green and blue as one number."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _most_frequent(packed: np.ndarray) -> tuple[dict[Colour, int], int]:
    """The most frequent colours with their pixels, the most first, and how many colours there are."""
    found, pixels = np.unique(packed, return_counts=True)
    most = np.argsort(-pixels, kind="stable")[:_MOST_COUNTED]
    pairs = zip(found[most].tolist(), pixels[most].tolist(), strict=True)
    return {(colour >> 16, colour >> 8 & 255, colour & 255): number for colour, number in pairs}, len(found)


def _shown(counts: Mapping[Colour, int]) -> str:
    return _text(list(counts)[:_MOST_SHOWN])


def _text(colours: Sequence[Colour]) -> str:
    # With the comma after the last, one colour is a sequence of one too.
    return "".join(f"({red},{green},{blue})," for red, green, blue in colours)
