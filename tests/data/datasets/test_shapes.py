"""Generated examples depend on seed, split and index alone, and their labels on shape alone."""

import numpy as np
import pytest

from flaxseg.data.datasets.shapes import shapes
from flaxseg.data.masks.palette import default_palette
from flaxseg.errors import ArgumentError


def test_classes_and_arrays() -> None:
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


def test_all_shapes_occur_about_equally_often() -> None:
    source = shapes("train").source
    fraction = np.bincount(np.concatenate([source[i]["label"].ravel() for i in range(200)]), minlength=5) / (
        200 * 64 * 64
    )
    assert fraction.sum() == pytest.approx(1) and len(fraction) == 5
    assert (fraction[1:] > 0.03).all() and fraction[0] > 0.5
    assert fraction[1:4].max() < 2 * fraction[1:4].min()


def test_color_does_not_reveal_the_class() -> None:
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


def test_a_border_separates_every_shape_from_its_neighbors() -> None:
    source = shapes("train").source
    for i in range(20):
        label = source[i]["label"]
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching = (a != b) & (a != 4) & (b != 4)
            assert not touching.any()


def test_the_border_width_is_proportional_to_the_size() -> None:
    def fraction(size: int) -> float:
        source = shapes("train", size=(size, size)).source
        return float(np.mean([(source[i]["label"] == 4).mean() for i in range(30)]))

    assert fraction(128) == pytest.approx(fraction(64), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (64, 8)}, r"size = \(64, 8\): must be a height and a width of at least 16"),
        ({"max_shapes": 0}, "max_shapes = 0: must be an integer of at least 1"),
        ({"seed": -1}, "seed = -1: must be an integer of at least 0"),
        ({"noise": -2.0}, "noise = -2.0: must be a number of at least 0"),
    ],
)
def test_options_out_of_range_are_named(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        shapes("train", **options)


def test_an_unknown_split_is_reported_with_the_existing_ones() -> None:
    with pytest.raises(ArgumentError, match="split = 'training': must be one of 'train', 'val', 'test'"):
        shapes("training")


def test_default_colors_are_distinct_for_every_number_of_classes() -> None:
    colors = default_palette(255)
    assert len(set(colors)) == 255
    assert colors[:3] == default_palette(3)
    assert sum(colors[0]) < 150
