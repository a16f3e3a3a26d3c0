"""Bars of scores, their intervals, and patches of class colors."""

import numpy as np

from flaxseg.data.types import Color
from flaxseg.report.page.html import Html, element


def interval_track(value: float, bounds: np.ndarray) -> Html:
    """Returns a bar from 0 to a score in 0..1, with its interval on it."""
    low, high = (100 * float(bound) for bound in bounds)
    fill = element("i", class_="fill", style=f"width:{100 * value:.2f}%")
    between = element("i", class_="range", style=f"left:{low:.2f}%;width:{high - low:.2f}%")
    return element("div", fill, between, class_="track", title=f"95 % interval {low / 100:.3f} to {high / 100:.3f}")


def swatch(color: Color) -> Html:
    """Returns a patch of a class's color."""
    return element("i", class_="swatch", style=f"background:rgb{tuple(map(int, color))}")
