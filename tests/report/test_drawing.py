"""Labels in the colors of their classes, overlays, legends and PNG files."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flaxseg.report.drawing import (
    IGNORE_COLOR,
    MAX_LEGEND,
    add_legend,
    append_legend,
    colorize,
    error_color,
    error_map,
    figure_to_array,
    overlay,
    save_png,
    to_rgb,
)

PALETTE = ((10, 20, 30), (200, 0, 0))


def test_colorize_uses_the_palette_and_gray_for_ignored_pixels():
    label = np.array([[0, 1], [255, 1]], np.uint8)
    np.testing.assert_array_equal(colorize(label, PALETTE), [[PALETTE[0], PALETTE[1]], [IGNORE_COLOR, PALETTE[1]]])


def test_overlay_tints_and_outlines_classes():
    image = np.full((3, 4, 3), 100, np.uint8)
    label = np.array([[0, 0, 1, 1]] * 3, np.uint8)
    shown = overlay(image, label, PALETTE, opacity=0.5)
    np.testing.assert_array_equal(shown[1], [[100] * 3, PALETTE[0], PALETTE[1], [150, 50, 50]])
    transposed = overlay(image.transpose(1, 0, 2), label.T, PALETTE, opacity=0.5)
    np.testing.assert_array_equal(transposed[:, 1], shown[1])
    np.testing.assert_array_equal(overlay(image, np.zeros((3, 4), np.uint8), PALETTE, opacity=0)[0, 0], [100] * 3)


def test_overlay_tints_class_0_unless_it_is_nearly_black():
    image, label = np.full((3, 4, 3), 100, np.uint8), np.zeros((3, 4), np.uint8)
    for color, expected in ((0, 0, 48), 100), ((0, 0, 50), (50, 50, 75)):
        shown = overlay(image, label, (color, (0, 0, 0)), opacity=0.5)
        assert (shown == expected).all()
        # Only a background is left out, and nothing is where the colors alone are shown.
        assert (overlay(image, label + 1, (color, (0, 0, 0)), opacity=0.5) == 50).all()
        assert (overlay(image, label, (color, (0, 0, 0)), opacity=1) == color).all()


def test_overlay_stripes_ignored_pixels():
    shown = overlay(np.zeros((8, 16, 3), np.uint8), np.full((8, 16), 255, np.uint8), PALETTE, opacity=0.5)
    covered = (shown == IGNORE_COLOR).all(-1)
    np.testing.assert_array_equal(covered[0], [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4)
    np.testing.assert_array_equal(covered[1, :5], [True] * 3 + [False] * 2)
    assert (shown[~covered] == 115).all()


def test_wrong_pixels_have_a_color_that_no_class_has():
    assert error_color([(0, 0, 0), (0, 120, 0)]) == error_color(()) == (255, 0, 90)
    assert error_color([(0, 0, 0), (220, 20, 60)]) == (0, 215, 255)
    assert error_color([(220, 20, 60), (0, 200, 250)]) == (255, 220, 0)
    near_all = [(255, 0, 90), (0, 215, 255), (255, 220, 0), (120, 255, 90)]
    assert error_color(near_all) == (120, 255, 0), "the one at the largest distance"


def test_error_map_marks_wrong_pixels_on_a_dark_image_and_stripes_ignored_ones():
    image = np.full((8, 16, 3), 100, np.uint8)
    label, prediction = np.zeros((8, 16), np.uint8), np.zeros((8, 16), np.uint8)
    label[:, 8:], prediction[2, :4] = 255, 1
    prediction[:, 12:] = 1
    shown = error_map(image, label, prediction, (255, 0, 90))
    wrong = (shown == (255, 0, 90)).all(-1)
    assert wrong[2, :4].all() and wrong.sum() == 4
    assert (shown[:, :8][~wrong[:, :8]] == 50).all()
    striped = (shown[:, 8:] == IGNORE_COLOR).all(-1)
    assert 0.4 < striped.mean() < 0.6 and (shown[:, 8:][~striped] == 50).all()


def test_a_legend_below_an_image_has_further_colors_and_a_striped_patch():
    image = np.zeros((5, 300, 3), np.uint8)
    names = ("sky", "cat")
    shown = append_legend(image, names, PALETTE, others={"wrong": (0, 99, 0)}, ignored="ignored", size=14)
    np.testing.assert_array_equal(shown[:5], image)
    below = shown[5:]
    for color in (*PALETTE, (0, 99, 0)):
        assert (below == color).all(-1).sum() == 13 * 13
    plain = append_legend(image, names, PALETTE, size=14)[5:]
    striped = [(each == (110, 110, 110)).all(-1).sum() for each in (below, plain)]
    assert 0.3 * 13 * 13 < striped[0] - striped[1] < 0.7 * 13 * 13


@pytest.mark.parametrize(("channels", "expected"), [(1, [7, 7, 7]), (2, [7, 7, 7]), (3, [7, 8, 9]), (5, [7, 8, 9])])
def test_to_rgb_accepts_any_number_of_channels(channels, expected):
    image = np.arange(7, 7 + channels, dtype=np.uint8)[None, None]
    np.testing.assert_array_equal(to_rgb(image), [[expected]])
    as_floats = to_rgb(image.astype(np.float32) + 0.4)
    assert as_floats.dtype == np.uint8
    np.testing.assert_array_equal(as_floats, [[expected]])


def test_to_rgb_clips_and_rounds_floats():
    np.testing.assert_array_equal(to_rgb(np.array([[[-3.0, 300.0, 12.6]]], np.float32)), [[[0, 255, 13]]])


def legend_texts(names):
    figure = Figure(layout="constrained")
    add_legend(figure, names, [(i, i, i) for i in range(len(names))], striped=True)
    assert figure_to_array(figure).shape == (480, 640, 3)
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def test_legend_shows_names_literally_and_limits_their_number():
    assert legend_texts(["_hidden", r"a$b$"]) == ["_hidden", r"a\$b\$", "ignored"]
    many = legend_texts([f"class {i}" for i in range(40)])
    assert len(many) == MAX_LEGEND + 1 and many[-2:] == [f"class {MAX_LEGEND - 1}", "ignored"]


def test_saved_png_reads_back(tmp_path):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    save_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
