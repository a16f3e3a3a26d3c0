"""Rendered figures: which colors and values they show, and that many classes fit."""

import numpy as np
import pytest

from flaxseg.metrics import Reliability
from flaxseg.report.figures import (
    confusion_figure,
    hardest_panel,
    learning_rate_figure,
    prediction_panel,
    reliability_figure,
)

PALETTE = ((10, 20, 30), (200, 0, 0))


def test_prediction_panel_shows_label_and_prediction_in_the_palette():
    image, label = np.full((16, 16, 3), 3, np.uint8), np.ones((16, 16), np.uint8)
    pixels = prediction_panel([(image, label, np.zeros_like(label))], ("sky", "cat"), PALETTE).reshape(-1, 3)
    for color in PALETTE:
        assert (pixels == color).all(1).sum() > 1000


@pytest.mark.parametrize("channels", [1, 4])
def test_prediction_panel_accepts_any_number_of_channels(channels):
    image, label = np.full((5, 5, channels), 90, np.uint8), np.zeros((5, 5), np.uint8)
    figure = prediction_panel([(image, label, label)], ("sky", "cat"), PALETTE)
    assert (figure == 90).all(-1).sum() > 1000


def test_hardest_panel_outlines_classes_beside_the_image():
    label = np.repeat([[0, 1]], 2, 0).astype(np.uint8)
    example = {"image": np.full((2, 2, 3), 90, np.uint8), "label": label, "id": "a"}
    pixels = hardest_panel([(example, 0.5)], ("sky", "cat"), PALETTE).reshape(-1, 3)
    for color in ((90, 90, 90), *PALETTE):
        assert (pixels == color).all(1).sum() > 1000


def test_many_classes_fit_into_panel_and_matrix():
    names = tuple(f"class {i}" for i in range(150))
    counts = np.eye(150, dtype=np.int64) * 7
    assert max(confusion_figure(counts, names).shape) <= 1400
    label = np.arange(25, dtype=np.uint8).reshape(5, 5)
    palette = tuple((i, i, i) for i in range(150))
    assert prediction_panel([(np.zeros((5, 5, 3), np.uint8), label, label)], names, palette).shape[2] == 3


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
