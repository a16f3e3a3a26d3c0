"""Drawn examples depend on seed, split and index alone, and their labels on shape alone."""

import numpy as np
import pytest

from flaxseg.data.datasets.shapes import shapes
from flaxseg.data.masks.palette import default_palette
from flaxseg.errors import DataError


def test_the_classes_and_the_arrays() -> None:
    dataset = shapes("train", size=(48, 80), count=3)
    assert dataset.class_names == ("background", "disc", "square", "triangle", "border")
    assert dataset.num_classes == 5 and len(dataset.source) == 3
    example = dataset.source[2]
    assert example["image"].shape == (48, 80, 3) and example["image"].dtype == np.uint8
    assert example["label"].shape == (48, 80) and example["label"].dtype == np.uint8
    with pytest.raises(IndexError):
        dataset.source[3]


def test_an_example_is_a_function_of_seed_split_and_index() -> None:
    first = shapes("train").source[5]
    again = shapes("train", count=6).source[5]
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["label"], again["label"])
    others = [
        shapes("val").source[5],
        shapes("test").source[5],
        shapes("train", seed=1).source[5],
        shapes("train").source[6],
    ]
    everything = [first, *others]
    assert len({example["image"].tobytes() for example in everything}) == 5
    assert len({example["id"] for example in everything}) == 5


def test_all_classes_occur_about_as_often_as_each_other() -> None:
    source = shapes("train").source
    share = np.bincount(np.concatenate([source[i]["label"].ravel() for i in range(200)]), minlength=5) / (200 * 64 * 64)
    assert share.sum() == pytest.approx(1) and len(share) == 5
    assert (share[1:] > 0.03).all() and share[0] > 0.5
    assert share[1:4].max() < 2 * share[1:4].min()


def test_color_says_nothing_of_the_class() -> None:
    source = shapes("train").source
    sums, counts = np.zeros((4, 3)), np.zeros(4)
    for i in range(400):
        example = source[i]
        for kind in range(4):
            pixels = example["image"][example["label"] == kind]
            if len(pixels):
                sums[kind] += pixels.mean(0)
                counts[kind] += 1
    means = sums / counts[:, None]
    assert np.abs(means - means.mean(0)).max() < 15


def test_a_border_lies_between_every_shape_and_what_is_beside_it() -> None:
    source = shapes("train").source
    for i in range(20):
        label = source[i]["label"]
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching = (a != b) & (a != 4) & (b != 4)
            assert not touching.any()


def test_the_border_is_as_wide_in_proportion_at_every_size() -> None:
    def share(size: int) -> float:
        source = shapes("train", size=(size, size)).source
        return float(np.mean([(source[i]["label"] == 4).mean() for i in range(30)]))

    assert share(128) == pytest.approx(share(64), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (64, 8)}, r"data\.options\.size .* is 8: it must be at least 16"),
        ({"max_shapes": 0}, r"data\.options\.max_shapes .* is 0: it must be at least 1"),
        ({"seed": -1}, r"data\.options\.seed .* is -1: it must be at least 0"),
        ({"noise": -2.0}, r"data\.options\.noise .* is -2\.0: it must be at least 0"),
    ],
)
def test_options_out_of_range_are_named(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        shapes("train", **options)


def test_an_unknown_split_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match="no split 'training': there are train, val, test"):
        shapes("training")


def test_default_colors_are_distinct_up_to_every_possible_class() -> None:
    colors = default_palette(255)
    assert len(set(colors)) == 255
    assert colors[:3] == default_palette(3)
    assert sum(colors[0]) < 150
