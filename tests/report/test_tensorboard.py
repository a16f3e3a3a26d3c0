"""Pictures for people: what is shown, in which colors, and which examples."""

import numpy as np
import pytest

from flaxseg.report.tensorboard import Pictures, confusion_picture, panel

PALETTE = ((10, 20, 30), (200, 0, 0))


def example(height, width, value):
    return np.full((height, width, 3), value, np.uint8), np.full((height, width), value % 2, np.uint8)


def batch_of(count, filled):
    """A batch at native resolution whose labels are 6x4 in arrays of 8x8, and of which only some are not filling."""
    label = np.full((count, 8, 8), 255, np.uint8)
    label[:filled, :6, :4] = 1
    size = np.zeros((count, 2), np.int32)
    size[:filled] = 6, 4
    return {"image": np.zeros((count, 8, 8, 3), np.uint8), "label": label, "size": size}


def test_pictures_are_the_first_that_do_not_fill_up():
    pictures = Pictures(3)
    prediction = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 8, 8), np.uint8)
    pictures.add(batch_of(4, filled=2), prediction)
    assert pictures.count == 2 and pictures.wants_more
    pictures.add(batch_of(4, filled=4), prediction)
    assert pictures.count == 3 and not pictures.wants_more
    assert [row[2][0, 0] for row in pictures.rows] == [0, 1, 0]
    for _, label, _ in pictures.rows:
        np.testing.assert_array_equal(label, np.ones((6, 4)))


def test_a_panel_shows_label_and_prediction_in_the_palettes_colors():
    pictures = Pictures(1)
    image, label = example(16, 16, 3)
    pictures.add({"image": image[None], "label": label[None]}, np.zeros((1, 16, 16), np.uint8))
    shown = panel(pictures, ("sky", "cat"), PALETTE).reshape(-1, 3)
    for color in PALETTE:
        assert (shown == color).all(1).sum() > 1000


@pytest.mark.parametrize("channels", [1, 4])
def test_a_panel_takes_pictures_of_other_channels(channels):
    pictures = Pictures(1)
    label = np.zeros((1, 5, 5), np.uint8)
    pictures.add({"image": np.full((1, 5, 5, channels), 90, np.uint8), "label": label}, label)
    assert (panel(pictures, ("sky", "cat"), PALETTE) == 90).all(-1).sum() > 1000


def test_many_classes_fit_into_panel_and_matrix():
    names = tuple(f"class {i}" for i in range(150))
    counts = np.eye(150, dtype=np.int64) * 7
    assert max(confusion_picture(counts, names).shape) <= 1400
    pictures = Pictures(1)
    label = np.arange(25, dtype=np.uint8).reshape(1, 5, 5)
    pictures.add({"image": np.zeros((1, 5, 5, 3), np.uint8), "label": label}, label)
    assert panel(pictures, names, tuple((i, i, i) for i in range(150))).shape[2] == 3


def test_the_matrix_shows_shares_of_rows_and_nothing_for_an_empty_one():
    names = ("sky", "cat")
    first_rows = ([3, 1], [6, 2], [1, 1])
    small, large, other = (confusion_picture(np.array([row, [0, 0]]), names) for row in first_rows)
    np.testing.assert_array_equal(small, large)
    assert (small != other).any()
