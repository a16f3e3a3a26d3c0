"""Contact sheets: which pictures are chosen, how they are made small, and that they are on the sheet."""

import numpy as np
import pytest

from flaxseg.data.types import SegmentationDataset
from flaxseg.inspection.contact_sheet import contact_sheet, picture, spread

PALETTE = ((250, 0, 250), (0, 250, 0))


def sheet(pictures, title="title"):
    dataset = SegmentationDataset((), 2, ("sky", "cat"), PALETTE)
    return contact_sheet(pictures, title, dataset, np.array([0.25, 0.75]), 0.5)


def test_the_chosen_are_spread_evenly_from_first_to_last():
    places = np.array([2, 3, 5, 7, 11, 13, 17])
    assert spread(places, 3) == [2, 7, 17]
    assert spread(places, 100) == places.tolist()
    assert spread(places, 1) == [2] and spread(places[:0], 5) == []


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (6, np.float32)])
def test_a_large_picture_is_made_small_before_its_label_is_drawn(channels, dtype):
    label = np.zeros((400, 800), np.uint8)
    label[:, 400:] = 1
    shown, caption = picture(np.zeros((400, 800, channels), dtype), label, "x" * 100, PALETTE)
    assert shown.shape == (150, 300, 3)
    # One column of outline, whatever the size was.
    np.testing.assert_array_equal(np.flatnonzero((shown == PALETTE[0]).all((0, 2))), [149])
    assert caption == "..." + "x" * 39


def test_without_a_label_the_picture_is_left_as_it_is():
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    shown, caption = picture(image, None, "short", PALETTE)
    np.testing.assert_array_equal(shown, image)
    assert caption == "short"


def test_every_picture_is_on_the_sheet():
    gray = [picture(np.full((20, 30, 3), value, np.uint8), None, "$a$", PALETTE) for value in (50, 100, 150, 170, 200)]
    pixels = sheet(gray).reshape(-1, 3)
    areas = [(pixels == value).all(1).sum() for value in (50, 100, 150, 170, 200)]
    assert min(areas) > 20_000 and max(areas) < 1.1 * min(areas)
    assert all((pixels == color).all(1).sum() > 50 for color in PALETTE)  # the legend
    assert sheet(gray[:4]).shape[0] < sheet(gray).shape[0]
