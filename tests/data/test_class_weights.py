"""Class weights against values worked out by hand from the papers' formulas."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest

from flaxseg.data import SegmentationDataset
from flaxseg.data.class_weights import (
    WEIGHTINGS,
    class_weights_of,
    effective_number_weights,
    log_weights,
    median_frequency_weights,
    store,
    table,
)
from flaxseg.errors import DataError

# Two pictures of 10 pixels: class 1 only in the first, class 2 never, class 3 only in the second.
COUNTS = np.array([[8, 2, 0, 0], [6, 0, 0, 4]])


def test_log_weights():
    expected = [1 / math.log(1.02 + 0.7), 1 / math.log(1.02 + 0.1), 0, 1 / math.log(1.02 + 0.2)]
    np.testing.assert_allclose(log_weights(COUNTS), expected)
    np.testing.assert_allclose(log_weights(COUNTS, offset=2)[1], 1 / math.log(2.1))


def test_median_frequency_counts_only_pictures_that_have_the_class():
    # 14 of 20, 2 of 10 and 4 of 10 pixels; their median is 0.4.
    np.testing.assert_allclose(median_frequency_weights(COUNTS), [0.4 / 0.7, 0.4 / 0.2, 0, 1])


def test_effective_number_of_few_prototypes():
    # beta = 1/2: (1 - 1/2^n) * 2 for n = 2, 1; the inverses 2/3 and 1 are brought to a mean of 1.
    counts = np.array([[2, 1], [0, 0]])
    np.testing.assert_allclose(effective_number_weights(counts, prototypes=2), [0.8, 1.2])


def test_effective_number_is_exact_where_beta_is_almost_one():
    # n / N of 1e-6 and 1e-3: 1 - exp(-n / N), so that the weights have the inverse ratio.
    weights = effective_number_weights(np.array([[10**6, 10**9]]), prototypes=1e12)
    assert weights[0] / weights[1] == pytest.approx(-math.expm1(-1e-3) / -math.expm1(-1e-6), rel=1e-9)


@pytest.mark.parametrize("weighting", WEIGHTINGS.values())
def test_every_weighting_keeps_to_the_contract(weighting):
    weights = weighting(COUNTS)
    assert weights.shape == (4,) and weights[2] == 0
    assert weights[1] > weights[3] > weights[0] > 0
    np.testing.assert_array_equal(weighting(np.zeros((2, 3), int)), [0, 0, 0])
    # Twice the pictures, or as many pixels as large datasets have, change nothing.
    many = COUNTS * 10**9
    np.testing.assert_allclose(weighting(np.concatenate([many, many])), weighting(many), rtol=1e-6)
    assert np.ptp(weighting(np.full((5, 3), 2**50))) == 0


@pytest.fixture
def three_classes():
    label = np.array([[0, 0, 0, 1], [0, 2, 255, 0]], np.uint8)
    source = [{"image": np.zeros((2, 4, 3), np.uint8), "label": label, "id": "a"}]
    return SegmentationDataset(source, 3, ("sky", "car", "pole"), ((0, 0, 255), (255, 0, 0), (9, 9, 9)))


def test_weights_are_counted_once_and_then_read_from_the_run(three_classes, tmp_path):
    find = partial(class_weights_of, "log", workdir=tmp_path, num_threads=0)
    weights = find(three_classes)
    np.testing.assert_allclose(weights, log_weights(np.array([[5, 1, 1]])), rtol=1e-12)
    store(weights, three_classes.class_names, tmp_path)
    grown = dataclasses.replace(three_classes, source=three_classes.source * 2 + [{"label": None}])
    assert find(grown) == weights


def test_weights_may_be_given_or_none(three_classes, tmp_path):
    assert class_weights_of((1, 2, 0.5), three_classes, workdir=tmp_path, num_threads=0) == (1.0, 2.0, 0.5)
    assert class_weights_of("none", three_classes, workdir=tmp_path, num_threads=0) is None


def test_weights_of_nothing_are_refused(three_classes):
    three_classes.source[0]["label"] = np.full((2, 4), 255, np.uint8)
    with pytest.raises(DataError, match="config.class_weights = 'log': no picture has a pixel of any class"):
        class_weights_of("log", three_classes, workdir=None, num_threads=0)


def test_a_file_of_other_classes_is_refused(three_classes, tmp_path):
    store((1.0, 2.0), ("sky", "car"), tmp_path)
    with pytest.raises(DataError, match="class_weights.json: does not hold a number for each of .* sky, car, pole"):
        class_weights_of("log", three_classes, workdir=tmp_path, num_threads=0)


def test_the_table_has_a_bar_in_the_color_of_each_class():
    names, palette = ("sky", "car", "pole"), ((0, 0, 255), (255, 0, 0), (9, 9, 9))
    lines = table((0.5, 2.0, 0.0), names, palette, colors=False).splitlines()
    assert [line.split() for line in lines] == [
        ["class", "weight"],
        ["sky", "0.5", "█" * 6],
        ["car", "2", "█" * 24],
        ["pole", "0"],
    ]
    colored = table((0.5, 2.0, 0.0), names, palette, colors=True).splitlines()
    assert colored[2].endswith(f"\x1b[38;2;255;0;0m{'█' * 24}\x1b[0m")
