"""Labels in colors, over pictures, and what stands beside them."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flaxseg.report.drawing import IGNORE_COLOR, MAX_LEGEND, add_legend, colorise, displayable, overlay, rendered, save

PALETTE = ((10, 20, 30), (200, 0, 0))


def test_colors_are_the_palettes_and_gray_where_ignored():
    label = np.array([[0, 1], [255, 1]], np.uint8)
    np.testing.assert_array_equal(colorise(label, PALETTE), [[PALETTE[0], PALETTE[1]], [IGNORE_COLOR, PALETTE[1]]])


def test_an_overlay_tints_classes_and_outlines_them():
    image = np.full((3, 4, 3), 100, np.uint8)
    label = np.array([[0, 0, 1, 1]] * 3, np.uint8)
    shown = overlay(image, label, PALETTE, opacity=0.5)
    np.testing.assert_array_equal(shown[1], [[55, 60, 65], PALETTE[0], PALETTE[1], [150, 50, 50]])
    upright = overlay(image.transpose(1, 0, 2), label.T, PALETTE, opacity=0.5)
    np.testing.assert_array_equal(upright[:, 1], shown[1])
    np.testing.assert_array_equal(overlay(image, np.zeros((3, 4), np.uint8), PALETTE, opacity=0)[0, 0], [100] * 3)


def test_ignored_pixels_are_striped():
    shown = overlay(np.zeros((8, 16, 3), np.uint8), np.full((8, 16), 255, np.uint8), PALETTE, opacity=0.5)
    covered = (shown == IGNORE_COLOR).all(-1)
    np.testing.assert_array_equal(covered[0], [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4)
    np.testing.assert_array_equal(covered[1, :5], [True] * 3 + [False] * 2)
    assert (shown[~covered] == 115).all()


@pytest.mark.parametrize(("channels", "expected"), [(1, [7, 7, 7]), (2, [7, 7, 7]), (3, [7, 8, 9]), (5, [7, 8, 9])])
def test_pictures_of_any_channels_are_shown_as_three(channels, expected):
    image = np.arange(7, 7 + channels, dtype=np.uint8)[None, None]
    np.testing.assert_array_equal(displayable(image), [[expected]])
    as_floats = displayable(image.astype(np.float32) + 0.4)
    assert as_floats.dtype == np.uint8
    np.testing.assert_array_equal(as_floats, [[expected]])


def test_floats_outside_of_the_range_are_held_to_it():
    np.testing.assert_array_equal(displayable(np.array([[[-3.0, 300.0, 12.6]]], np.float32)), [[[0, 255, 13]]])


def legend_texts(names):
    figure = Figure(layout="constrained")
    add_legend(figure, names, [(i, i, i) for i in range(len(names))], striped=True)
    assert rendered(figure).shape == (480, 640, 3)
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def test_a_legend_shows_names_as_they_are():
    assert legend_texts(["_hidden", r"a$b$"]) == ["_hidden", r"a\$b\$", "ignored"]
    many = legend_texts([f"class {i}" for i in range(40)])
    assert len(many) == MAX_LEGEND + 1 and many[-2:] == [f"class {MAX_LEGEND - 1}", "ignored"]


def test_a_saved_picture_reads_back(tmp_path):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    save(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
