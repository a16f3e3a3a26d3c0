"""Class weights against values computed by hand from the formulas of the papers."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data import SegmentationDataset
from flaxseg.data.class_weights import (
    WEIGHTINGS,
    compute_class_weights,
    effective_number_weights,
    format_class_weights,
    log_weights,
    median_frequency_weights,
    read_class_weights,
    resolve_class_weights,
    write_class_weights,
)
from flaxseg.errors import DataError

# Two images of 10 pixels: class 1 only in the first, class 2 never, class 3 only in the second.
COUNTS = np.array([[8, 2, 0, 0], [6, 0, 0, 4]])


def test_log_weights():
    expected = [1 / math.log(1.02 + 0.7), 1 / math.log(1.02 + 0.1), 0, 1 / math.log(1.02 + 0.2)]
    np.testing.assert_allclose(log_weights(COUNTS), expected)
    np.testing.assert_allclose(log_weights(COUNTS, offset=2)[1], 1 / math.log(2.1))


def test_median_frequency_uses_only_images_with_the_class():
    # 14 of 20, 2 of 10 and 4 of 10 pixels; their median is 0.4.
    np.testing.assert_allclose(median_frequency_weights(COUNTS), [0.4 / 0.7, 0.4 / 0.2, 0, 1])


def test_effective_number_with_few_prototypes():
    # beta = 1/2: (1 - 1/2^n) * 2 for n = 2, 1; the inverses 2/3 and 1 are scaled to a mean of 1.
    counts = np.array([[2, 1], [0, 0]])
    np.testing.assert_allclose(effective_number_weights(counts, prototypes=2), [0.8, 1.2])


def test_effective_number_is_accurate_if_beta_is_close_to_one():
    # n / N of 1e-6 and 1e-3: 1 - exp(-n / N), so that the weights have the inverse ratio.
    weights = effective_number_weights(np.array([[10**6, 10**9]]), prototypes=1e12)
    assert weights[0] / weights[1] == pytest.approx(-math.expm1(-1e-3) / -math.expm1(-1e-6), rel=1e-9)


@pytest.mark.parametrize("weighting", WEIGHTINGS.values())
def test_every_weighting_meets_the_contract(weighting):
    weights = weighting(COUNTS)
    assert weights.shape == (4,) and weights[2] == 0
    assert weights[1] > weights[3] > weights[0] > 0
    np.testing.assert_array_equal(weighting(np.zeros((2, 3), int)), [0, 0, 0])
    # Twice as many images, or as many pixels as in large datasets, change nothing.
    many = COUNTS * 10**9
    np.testing.assert_allclose(weighting(np.concatenate([many, many])), weighting(many), rtol=1e-6)
    assert np.ptp(weighting(np.full((5, 3), 2**50))) == 0


@pytest.fixture
def three_classes():
    label = np.array([[0, 0, 0, 1], [0, 2, 255, 0]], np.uint8)
    source = ListSource([{"image": np.zeros((2, 4, 3), np.uint8), "label": label, "id": "a"}])
    return SegmentationDataset(source, 3, ("sky", "car", "pole"), ((0, 0, 255), (255, 0, 0), (9, 9, 9)))


def test_weights_are_computed_once_and_then_read_from_the_file(three_classes, tmp_path):
    path = tmp_path / "class_weights.json"
    resolve = partial(resolve_class_weights, "log", stored=path, num_threads=0)
    weights = resolve(three_classes)
    np.testing.assert_allclose(weights, log_weights(np.array([[5, 1, 1]])), rtol=1e-12)
    write_class_weights(path, weights, three_classes.class_names)
    unreadable = ListSource([*three_classes.source.examples, {"label": None}])
    assert resolve(dataclasses.replace(three_classes, source=unreadable)) == weights


def test_weights_can_be_given_or_none(three_classes, tmp_path):
    resolve = partial(resolve_class_weights, dataset=three_classes, stored=tmp_path / "w.json", num_threads=0)
    assert resolve((1, 2, 0.5)) == (1.0, 2.0, 0.5)
    assert resolve("none") is None


def test_weights_require_a_valid_pixel(three_classes):
    three_classes.source.examples[0]["label"] = np.full((2, 4), 255, np.uint8)
    with pytest.raises(DataError, match=r"class weights \('log'\): no image contains a pixel of any class"):
        compute_class_weights("log", three_classes, num_threads=0)


def test_a_file_with_other_classes_is_rejected(three_classes, tmp_path):
    path = tmp_path / "class_weights.json"
    write_class_weights(path, (1.0, 2.0), ("sky", "car"))
    assert read_class_weights(path, ("car", "sky")) == (2.0, 1.0)
    with pytest.raises(DataError, match="class_weights.json: does not contain a number for each of .* sky, car, pole"):
        resolve_class_weights("log", three_classes, stored=path, num_threads=0)


def test_the_table_has_a_bar_in_the_color_of_each_class():
    names, palette = ("sky", "car", "pole"), ((0, 0, 255), (255, 0, 0), (9, 9, 9))
    lines = format_class_weights((0.5, 2.0, 0.0), names, palette, colors=False).splitlines()
    assert [line.split() for line in lines] == [
        ["class", "weight"],
        ["sky", "0.5", "█" * 6],
        ["car", "2", "█" * 24],
        ["pole", "0"],
    ]
    colored = format_class_weights((0.5, 2.0, 0.0), names, palette, colors=True).splitlines()
    assert colored[2].endswith(f"\x1b[38;2;255;0;0m{'█' * 24}\x1b[0m")
