"""Exact conversion of colored masks to classes."""

import numpy as np
import pytest

from flaxseg.data.masks.class_colors import ClassColors, colored_mask_error
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import DataError, UnknownColors


def test_each_pixel_gets_the_class_of_its_color_with_255_classes() -> None:
    generator = np.random.default_rng(0)
    packed = generator.choice(2**24, 256, replace=False)
    table = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in packed]
    classes = generator.integers(0, 256, (30, 40))
    mask = np.array(table, np.uint8)[classes]
    label = ClassColors(tuple(table[:255]), tuple(table[255:])).to_classes(mask, name="m")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, classes)
    assert (label[classes == 255] == IGNORE_LABEL).all()


def test_transparency_is_dropped_and_other_formats_are_rejected() -> None:
    table = ClassColors(((1, 2, 3),))
    np.testing.assert_array_equal(table.to_classes(np.array([[[1, 2, 3, 77]]], np.uint8), name="m"), [[0]])
    for mask in (np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 3), np.float32)):
        with pytest.raises(DataError, match="m: has . channel.*requires 8-bit RGB masks"):
            table.to_classes(mask, name="m")


@pytest.mark.parametrize("near", [(1, 2, 4), (1, 3, 3), (2, 2, 3), (255, 255, 255), (0, 0, 0)])
def test_a_similar_color_does_not_belong_to_a_class(near: tuple[int, int, int]) -> None:
    mask = np.array([[(1, 2, 3), (1, 2, 3), (1, 2, 3), near]], np.uint8)
    with pytest.raises(
        DataError, match=r"m: 25\.00% of its pixels .* belong to no class: \({},{},{}\)\. ".format(*near)
    ):
        ClassColors(((1, 2, 3),)).to_classes(mask, name="m")


@pytest.mark.parametrize(("number", "expected"), [(8, False), (9, True)])
def test_only_many_unknown_colors_suggest_interpolation(number: int, expected: bool) -> None:
    mask = np.array([[(0, 0, 0), (5, 5, 5), *((level, 7, 9) for level in range(number))]], np.uint8)
    with pytest.raises(UnknownColors) as caught:
        ClassColors(((0, 0, 0), (1, 1, 1)), ((5, 5, 5),)).to_classes(mask, name="m")
    assert ("resized with interpolation" in str(caught.value)) == expected
    assert str(caught.value).startswith(f"{caught.value.fact}. The classes have (0,0,0), (1,1,1); add each other color")
    assert caught.value.occurring == {(0, 0, 0)}


def test_the_most_frequent_colors_are_listed_first_and_the_rest_is_counted() -> None:
    mask = np.zeros((1, 30, 3), np.uint8)
    mask[0, :20, 0] = np.arange(20)
    mask[0, 20:, 0] = 7
    error = colored_mask_error(mask, name="m.png")
    assert "folder(colors=((7,0,0),(0,0,0),(1,0,0)," in str(error)
    assert "the most frequent of the 20 in this file" in str(error)
    assert len(error.counts) == 20 and error.counts[7, 0, 0] == (mask == (7, 0, 0)).all(-1).sum()
