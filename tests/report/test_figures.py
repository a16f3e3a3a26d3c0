"""Rendered figures: which colors and values they show, and that many classes fit."""

import numpy as np

from flaxseg.metrics import Reliability
from flaxseg.report.figures import confusion_figure, learning_rate_figure, reliability_figure


def test_many_classes_fit_into_a_matrix():
    names = tuple(f"class {i}" for i in range(150))
    counts = np.eye(150, dtype=np.int64) * 7
    assert max(confusion_figure(counts, names).shape) <= 1400


def test_confusion_figure_normalizes_rows_and_accepts_an_empty_row():
    names = ("sky", "cat")
    first_rows = ([3, 1], [6, 2], [1, 1])
    small, large, other = (confusion_figure(np.array([row, [0, 0]]), names) for row in first_rows)
    np.testing.assert_array_equal(small, large)
    assert (small != other).any()


def test_reliability_figure_draws_bars_of_accuracy_and_of_fractions():
    nothing = Reliability(*np.full((3, 15), np.nan))
    one_bin = Reliability(*(np.where(np.arange(15) == 14, value, np.nan) for value in (0.97, 0.5, 1.0)))
    blue, gray = (31, 119, 180), (153, 153, 153)
    for color in (blue, gray):
        empty, filled = ((reliability_figure(t) == color).all(-1).sum() for t in (nothing, one_bin))
        assert filled - empty > 1000


def test_learning_rate_figure_marks_each_suggestion():
    rates = np.geomspace(1e-6, 1, 20)
    losses = np.linspace(2, 1, 20)
    plain = learning_rate_figure(rates, losses, losses, {})
    marked = learning_rate_figure(rates, losses, losses, {"steepest": 1e-3, "a tenth": 1e-2})
    for color in ((255, 127, 14), (44, 160, 44)):
        assert (plain == color).all(-1).sum() == 0
        assert (marked == color).all(-1).sum() > 100
