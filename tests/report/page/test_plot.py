"""Axes and the positions of marks, by hand."""

import pytest

from flaxseg.report.page.plot import HEIGHT, WIDTH, Plot, linear_axis, log_axis, plain, unit_axis


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.5, 1]), (3, 17, [0, 5, 10, 15, 20]), (-0.2, 0.3, [-0.2, 0, 0.2, 0.4]), (0, 0.0009, None),
     (7, 7, [2, 4, 6, 8, 10, 12])],
)  # fmt: skip
def test_linear_axes_end_at_round_ticks(low, high, ticks):
    axis = linear_axis("", low, high)
    assert axis.low <= low <= high <= axis.high and axis.ticks[0] == axis.low and axis.ticks[-1] == axis.high
    if ticks:
        assert list(axis.ticks) == ticks


def test_logarithmic_axes():
    axis = log_axis("", 10, 1000)
    assert list(axis.ticks) == [10, 100, 1000]
    assert axis.fraction(100) == pytest.approx(0.5)
    assert axis.fraction(1e-9) == 0 and axis.fraction(1e9) == 1
    assert list(log_axis("", 100, 400).ticks) == [100, 200, 300]


def test_positions_of_marks():
    plot = Plot(unit_axis("x"), unit_axis("y"))
    assert (plot.px(0), plot.px(1), plot.py(0), plot.py(1)) == (42, WIDTH - 20, HEIGHT - 42, 26)
    bar = plot.bar(0, 0.5, 0.25, title="a<b")
    assert 'x="42.75"' in bar and f'width="{179 - 1.5:g}"' in bar and f'height="{(HEIGHT - 68) / 4:g}"' in bar
    assert "<title>a&lt;b</title>" in bar
    assert 'cx="221"' in plot.dot(0.5, 1, title="")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (1500, "1.5k"),
        (25_000, "25k"),
        (2e6, "2M"),
        (5e-4, "5e-4"),
        (1e-12, "1e-12"),
        (0, "0"),
        (160, "160"),
    ],
)
def test_ticks_as_text(value, text):
    assert plain(value) == text
