"""Colored masks to classes, exactly."""

import numpy as np
import pytest

from flaxseg.data.masks.class_colors import ClassColors, without_table
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import DataError


def test_each_pixel_gets_the_class_of_its_color_among_255() -> None:
    generator = np.random.default_rng(0)
    packed = generator.choice(2**24, 256, replace=False)
    table = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in packed]
    classes = generator.integers(0, 256, (30, 40))
    mask = np.array(table, np.uint8)[classes]
    label = ClassColors(tuple(table[:255]), tuple(table[255:])).to_classes(mask, name="m")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, classes)
    assert (label[classes == 255] == IGNORE_LABEL).all()


def test_transparency_is_dropped_and_other_kinds_are_refused() -> None:
    table = ClassColors(((1, 2, 3),))
    np.testing.assert_array_equal(table.to_classes(np.array([[[1, 2, 3, 77]]], np.uint8), name="m"), [[0]])
    for mask in (np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 3), np.float32)):
        with pytest.raises(DataError, match="m: has .* of another kind than RGB of 8 bits"):
            table.to_classes(mask, name="m")


@pytest.mark.parametrize("near", [(1, 2, 4), (1, 3, 3), (2, 2, 3), (255, 255, 255), (0, 0, 0)])
def test_a_near_color_is_not_taken_for_a_class(near: tuple[int, int, int]) -> None:
    mask = np.array([[(1, 2, 3), (1, 2, 3), (1, 2, 3), near]], np.uint8)
    with pytest.raises(
        DataError, match=r"m: 25\.00% of its pixels .* belong to no class: \({},{},{}\),\. ".format(*near)
    ):
        ClassColors(((1, 2, 3),)).to_classes(mask, name="m")


def test_the_most_frequent_colors_come_first_and_the_rest_are_counted() -> None:
    mask = np.zeros((1, 30, 3), np.uint8)
    mask[0, :20, 0] = np.arange(20)
    mask[0, 20:, 0] = 7
    error = without_table(mask, name="m.png")
    assert "--config.data.options.colors='((7,0,0),(0,0,0),(1,0,0)," in str(error)
    assert "the most frequent of the 20 in this file" in str(error)
    assert len(error.counts) == 20 and error.counts[7, 0, 0] == (mask == (7, 0, 0)).all(-1).sum()
