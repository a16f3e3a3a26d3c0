"""The training curves of the runs that a network comes from."""

from collections.abc import Sequence

import numpy as np

from flaxseg.report.page.content import Curve, PageContent
from flaxseg.report.page.html import Html, element
from flaxseg.report.page.plot import Plot, figure, linear_axis

_MAX_POINTS = 240
"""The largest number of points in a line; longer curves are averaged over neighboring points."""

_MAX_LINES = 8


def training(content: PageContent) -> Html | None:
    """Returns the section of the training curves; None if there are none."""
    if not content.curves:
        return None
    shown = [figure(title, chart(curves, title)) for title, curves in content.curves.items()]
    key = _key(max(content.curves.values(), key=len))
    return element("section", element("h2", "Training"), element("div", *shown, class_="columns narrow"), key)


def chart(curves: Sequence[Curve], title: str) -> Html:
    """Returns a chart with a line for each curve, of eight at most, and a mark at the evaluated step."""
    shown = [_averaged(curve) for curve in curves[:_MAX_LINES]]
    steps, values = (np.concatenate([getattr(curve, name) for curve in shown]) for name in ("steps", "values"))
    plot = Plot(linear_axis("step", 0, steps.max()), linear_axis("", *_range(values)), width=320, height=220)
    marks = []
    for number, curve in enumerate(shown):
        marks.append(plot.line(curve.steps.tolist(), curve.values.tolist(), class_=f"curve c{number}", title=curve.run))
        if len(curve.steps) <= 30:
            marks += [
                plot.dot(step, value, title=f"step {step:g}: {value:.4g}", radius=2.5, class_=f"point c{number}")
                for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True)
            ]
        if curve.step is not None:
            ends = (plot.y.low, plot.y.high)
            title_ = f"step {curve.step:,}, which this report is about"
            marks.append(plot.line((curve.step, curve.step), ends, class_="evaluated", title=title_))
    return plot.svg(*marks, label=f"{title} by training step")


def _averaged(curve: Curve) -> Curve:
    parts = -(-len(curve.steps) // _MAX_POINTS)
    if parts <= 1:
        return curve
    places = np.arange(0, len(curve.steps), parts)
    sizes = np.diff([*places, len(curve.steps)])
    steps, values = (np.add.reduceat(array, places) / sizes for array in (curve.steps, curve.values))
    return Curve(curve.run, steps, values, curve.step)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Returns the range to show, without rare values far above the others, which would flatten the curve."""
    low, high = float(values.min()), float(values.max())
    usual = float(np.percentile(values, 95))
    high = min(high, usual + 0.6 * (usual - low)) if len(values) >= 20 else high
    return (0.0 if 0 <= low < 0.5 * high else low), high


def _key(curves: Sequence[Curve]) -> Html:
    """Returns what the lines are."""
    names = [
        element("span", element("i", class_=f"key c{number}"), curve.run)
        for number, curve in enumerate(curves[:_MAX_LINES])
    ]
    more = f"and {len(curves) - _MAX_LINES} more" if len(curves) > _MAX_LINES else None
    marks = "Dashed lines are the steps that this report is about." if any(curve.step for curve in curves) else None
    return element("p", *names, more, element("span", marks), class_="keys note")
