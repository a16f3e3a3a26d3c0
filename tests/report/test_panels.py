"""Panels of images: every image has its own resolution and its place, and legends and titles are there."""

import numpy as np
import pytest

from flaxseg.report.drawing import error_color, error_map, overlay
from flaxseg.report.panels import MAX_SIDE, Predicted, batch_panel, hardest_panel, prediction_panel

NAMES, PALETTE = ("sky", "cat"), ((10, 20, 30), (200, 0, 0))
RNG = np.random.default_rng(0)


def example(height, width, channels=3, title="a"):
    image = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    label, prediction = RNG.integers(0, 2, (2, height, width), dtype=np.uint8)
    label[:5] = 255
    return Predicted(image, label, prediction, title)


def contains(panel, tile):
    """Returns whether a tile is somewhere in a panel, pixel for pixel, and where its upper left corner is."""
    height, width = tile.shape[:2]
    found = np.argwhere((panel[: 1 - height or None, : 1 - width or None] == tile[0, 0]).all(-1))
    return [(y, x) for y, x in found.tolist() if np.array_equal(panel[y : y + height, x : x + width], tile)]


def test_images_keep_their_pixels_and_are_in_aligned_columns_a_few_pixels_apart():
    first, second = example(200, 240), example(230, 196)
    panel = prediction_panel([first, second], NAMES, PALETTE, errors=True)
    places = []
    for image, label, prediction, _ in (first, second):
        drawn = [overlay(image, each, PALETTE) for each in (label, prediction)]
        tiles = [image, *drawn, error_map(image, label, prediction, error_color(PALETTE))]
        (line,) = {place[0][0] for place in (contains(panel, tile) for tile in tiles)}
        places.append([contains(panel, tile)[0][1] for tile in tiles])
        assert line > 0
    assert places[0] == places[1] == [4, 4 + 244, 4 + 2 * 244, 4 + 3 * 244]
    assert panel.shape[1] == 4 * 244 + 4
    # Two images, a line of heads, two titles and a legend.
    assert 430 < panel.shape[0] < 430 + 6 * 30


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_reduced():
    small = example(20, 27)
    panel = prediction_panel([small], NAMES, PALETTE)
    assert panel.shape[1] == 3 * (7 * 27 + 4) + 4
    assert contains(panel, small.image.repeat(7, 0).repeat(7, 1))
    wide = example(30, 2 * MAX_SIDE)
    assert prediction_panel([wide], NAMES, PALETTE).shape[1] == 3 * (MAX_SIDE + 4) + 4


@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_any_number_of_channels_and_any_name(channels):
    image = example(30, 30, channels, title="folder/" * 40 + "äß猫.png: IoU 0.5")
    short = image._replace(title="äß猫.png: IoU 0.5")
    panels = [prediction_panel([each], NAMES, PALETTE, errors=True) for each in (image, short)]
    assert panels[0].shape == panels[1].shape
    assert (panels[0] == error_color(PALETTE)).all(-1).any()
    assert prediction_panel([image], NAMES, PALETTE).shape[1] < panels[0].shape[1]


def test_a_legend_of_many_classes_fits():
    names = tuple(f"class {i}" for i in range(150))
    palette = tuple((i, i, i) for i in range(150))
    assert prediction_panel([example(32, 32)], names, palette).shape[0] < 600


def test_the_hardest_examples_are_beside_their_labels():
    shown = example(200, 210)
    panel = hardest_panel([({"image": shown.image, "label": shown.label, "id": "a"}, 0.5)], NAMES, PALETTE)
    ((y, x),) = contains(panel, shown.image)
    assert contains(panel, overlay(shown.image, shown.label, PALETTE)) == [(y, x + 214)]


def test_a_batch_is_shown_in_pairs_of_lines():
    images = RNG.integers(0, 256, (6, 200, 200, 3), dtype=np.uint8)
    labels = RNG.integers(0, 2, (6, 200, 200), dtype=np.uint8)
    panel = batch_panel(images, labels, NAMES, PALETTE)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        top, left = 2 * 204 * (index // 4), 4 + 204 * (index % 4)
        assert contains(panel, image) == [(top, left)]
        assert contains(panel, overlay(image, label, PALETTE)) == [(top + 204, left)]
    np.testing.assert_array_equal(batch_panel(images.astype(np.float32), labels, NAMES, PALETTE), panel)


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x85", "\u2029", "\udce9"])
def test_names_that_cannot_be_drawn_have_a_replacement_character(character):
    shown = example(20, 20)

    def panel(text):
        return prediction_panel([shown._replace(title=f"a{text}b")], (f"c{text}", "d"), PALETTE)

    np.testing.assert_array_equal(panel(character), panel("\ufffd"))
