"""The frame of a chart: its axes with ticks, labels and grid lines, as SVG."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from flaxseg.report.page.html import Html, element, join

WIDTH, HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 20, 26, 42


def plain(value: float) -> str:
    """Returns a tick's text, such as `0.5`, `1.5k` or `5e-4`."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    for divisor, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * divisor or (abs(value) >= divisor and value % 100 == 0):
            return f"{value / divisor:g}{unit}"
    return f"{value:g}"


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
      label: its title.
      low: its first value.
      high: its last value, above `low`.
      ticks: the values with a tick.
      is_log: whether it is logarithmic; `low` is then above 0.
      text: returns the text of a tick.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool = False
    text: Callable[[float], str] = plain

    def fraction(self, value: float) -> float:
        """Returns the position of a value, from 0 to 1; values beyond the ends lie on them."""
        value, low, high = (math.log(max(v, self.low)) if self.is_log else v for v in (value, self.low, self.high))
        return min(max((value - low) / (high - low), 0.0), 1.0)


UNIT_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def unit_axis(label: str) -> Axis:
    """Returns an axis from 0 to 1."""
    return Axis(label, 0, 1, UNIT_TICKS)


def linear_axis(label: str, low: float, high: float) -> Axis:
    """Returns a linear axis that contains the values from `low` to `high`, and ends at ticks."""
    if not high > low:
        low, high = low - max(abs(low), 1e-9) / 2, high + max(abs(high), 1e-9) / 2
    raw = (high - low) / 4
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [float(f"{number * step:.12g}") for number in range(first, last + 1)]
    return Axis(label, ticks[0], ticks[-1], ticks)


_FACTORS: tuple[tuple[float, Sequence[float]], ...] = (
    (2, (1,)), (1.2, (1, 2, 5)), (0.5, (1, 2, 3, 5, 7)), (0, range(1, 10))
)  # fmt: skip
"""The factors of powers of ten that have ticks on a logarithmic axis of more than so many decades."""


def log_axis(label: str, low: float, high: float, text: Callable[[float], str] = plain) -> Axis:
    """Returns a logarithmic axis around the values from `low`, above 0, to `high`."""
    low, high = low / 1.1, high * 1.1
    decades = math.log10(high / low)
    factors = next(factors for least, factors in _FACTORS if decades > least)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{factor * 10.0**power:.3g}") for power in powers for factor in factors]
    return Axis(label, low, high, [tick for tick in ticks if low <= tick <= high], is_log=True, text=text)


@dataclasses.dataclass(frozen=True)
class Plot:
    """A chart: the positions of values, and the axes around its marks.

    Attributes:
      x: the horizontal axis.
      y: the vertical axis.
      width: in units of the drawing, which are pixels or a little more.
      height: likewise.
    """

    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = HEIGHT

    def px(self, value: float) -> float:
        """Returns the horizontal position of a value."""
        return _LEFT + (self.width - _LEFT - _RIGHT) * self.x.fraction(value)

    def py(self, value: float) -> float:
        """Returns the vertical position of a value."""
        return self.height - _BOTTOM - (self.height - _BOTTOM - _TOP) * self.y.fraction(value)

    def bar(self, low: float, high: float, value: float, *, title: str, class_: str = "bar") -> Html:
        """Returns a bar from 0 to `value` between two positions, with a text that is shown on hover."""
        left, top = self.px(low) + 0.75, self.py(value)
        width, height = self.px(high) - 0.75 - left, self.py(self.y.low) - top
        title_ = element("title", title)
        return element("rect", title_, class_=class_, x=left, y=top, width=width, height=height, rx=1.5)

    def line(self, xs: Sequence[float], ys: Sequence[float], *, class_: str, title: str = "") -> Html:
        """Returns a line through points."""
        points = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, ys, strict=True))
        return element("polyline", element("title", title) if title else None, class_=class_, points=points)

    def dot(self, x: float, y: float, *, title: str, radius: float = 3.5, class_: str = "dot") -> Html:
        """Returns a dot with a text that is shown on hover."""
        return element("circle", element("title", title), class_=class_, cx=self.px(x), cy=self.py(y), r=radius)

    def svg(self, *marks: Html, label: str) -> Html:
        """Returns the chart.

        Args:
          *marks: what is drawn in it, the last one on top.
          label: what it shows, for readers who do not see it.
        """
        bottom = self.height - _BOTTOM
        grid = [
            join(
                element("line", class_="grid", x1=_LEFT, x2=self.width - _RIGHT, y1=self.py(tick), y2=self.py(tick)),
                element("text", self.y.text(tick), class_="tick end", x=_LEFT - 7, y=self.py(tick) + 4),
            )
            for tick in self.y.ticks
        ]
        below = [element("text", self.x.text(tick), class_="tick mid", x=self.px(tick), y=bottom + 17) for tick in
                 self.x.ticks]  # fmt: skip
        axis = element("line", class_="axis", x1=_LEFT, x2=self.width - _RIGHT, y1=bottom, y2=bottom)
        titles = join(
            element("text", self.y.label, class_="label", x=0, y=12),
            element("text", self.x.label, class_="label mid", x=(_LEFT + self.width - _RIGHT) / 2, y=self.height - 6),
        )
        return element(
            "svg", *grid, *below, titles, *marks, axis,
            class_="plot", viewBox=f"0 0 {self.width} {self.height}", role="img", aria_label=label,
        )  # fmt: skip


def figure(title: str, *content: Html | str, note: Html | str = "") -> Html:
    """Returns a chart with its title above, and a note below."""
    caption = element("p", note, class_="note") if note else None
    return element("figure", element("figcaption", title), *content, caption, class_="card")
