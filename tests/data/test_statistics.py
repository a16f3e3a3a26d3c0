"""Statistics of a dataset against values computed by hand."""

import numpy as np
import pytest
from made_datasets import dataset, example

from flaxseg.data.statistics import class_counts, compute_statistics
from flaxseg.errors import DataError, UnknownValues


@pytest.mark.parametrize("num_threads", [0, 3])
def test_all_statistics_of_a_small_dataset(num_threads):
    statistics = compute_statistics(
        dataset(
            example([[0, 0, 1, 255]], image=[10, 20, 30]),
            example([[2], [255]], image=[10, 20, 90]),
            example([[255, 255]], image=[40, 20, 30]),
        ),
        num_threads=num_threads,
    )
    assert statistics.num_examples == 3 and statistics.problems == () and statistics.ids == ("e0", "e1", "e2")
    np.testing.assert_array_equal(statistics.sizes, [[1, 4], [2, 1], [1, 2]])
    assert statistics.orientations.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(statistics.counts, [[2, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 2]])
    np.testing.assert_allclose(statistics.class_fractions, [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(statistics.occurrences, [1, 1, 1])
    assert statistics.ignored_fraction == 0.5 and statistics.all_ignored == ["e2"]
    # Over the 8 pixels of all three images, so that a larger image has more weight.
    np.testing.assert_allclose(statistics.mean, [(6 * 10 + 2 * 40) / 8, 20, (6 * 30 + 2 * 90) / 8])
    np.testing.assert_allclose(statistics.std, [np.sqrt(6 * 2) / 8 * 30, 0, np.sqrt(6 * 2) / 8 * 60], atol=1e-6)
    assert not statistics.is_float.any() and statistics.value_range == (10, 90)


def test_images_with_many_channels_and_float_images():
    image = np.arange(6, dtype=np.float32)[None, None] * np.float32(25.5)
    statistics = compute_statistics(
        dataset(example([[0, 1]], image=image, channels=6, dtype=np.float32)), num_threads=0
    )
    np.testing.assert_allclose(statistics.mean, np.arange(6) * 25.5, rtol=1e-6)
    np.testing.assert_array_equal(statistics.channels, [6])
    assert statistics.is_float.all() and statistics.value_range == (0, 127.5)
    assert statistics.clipped_fractions == (1 / 6, 0)
    mixed = compute_statistics(dataset(example([[0]]), example([[0]], channels=1)), num_threads=0)
    assert mixed.mean is None and mixed.channels.tolist() == [3, 1]


def test_unusable_examples_are_recorded_as_problems():
    unknown = UnknownValues("m: 7", counts={0: 3, 7: 1}, values=(0, 1, 2), ignore_values=())
    other_size = (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8))
    data = dataset(example([[0]]), DataError("cut off"), example([[1]]), unknown, example([[9]]), other_size)
    statistics = compute_statistics(data, num_threads=2)
    np.testing.assert_array_equal(statistics.indices, [0, 2])
    np.testing.assert_array_equal(statistics.counts, [[1, 0, 0, 0], [0, 1, 0, 0]])
    assert statistics.num_examples == 6
    assert [(problem.index, problem.unknown) for problem in statistics.problems] == [
        (1, None),
        (3, unknown),
        (4, None),
        (5, None),
    ]
    assert statistics.problems[0].message == "cut off"
    assert "e4: the label has the values 9" in statistics.problems[2].message
    assert "e5: the image has the shape [2, 2, 3] and the label [2, 3]" in statistics.problems[3].message


def test_errors_other_than_data_errors_are_raised():
    with pytest.raises(KeyError):
        compute_statistics(dataset(KeyError("a mistake in code")), num_threads=1)


def test_an_empty_split():
    statistics = compute_statistics(dataset(), num_threads=1)
    assert statistics.num_examples == 0 and statistics.mean is None and statistics.counts.shape == (0, 4)
    np.testing.assert_array_equal(statistics.class_fractions, [0, 0, 0])
    assert statistics.ignored_fraction == 0 and statistics.all_ignored == []


@pytest.mark.parametrize("num_threads", [0, 2])
def test_class_counts_raise_the_first_error(num_threads):
    good = example([[0, 2, 2, 255]]), example([[1, 1, 1, 1]])
    np.testing.assert_array_equal(class_counts(dataset(*good), num_threads=num_threads), [[1, 0, 2, 1], [0, 4, 0, 0]])
    assert class_counts(dataset(), num_threads=num_threads).shape == (0, 4)
    with pytest.raises(DataError, match="first"):
        class_counts(dataset(*good, DataError("first"), DataError("second")), num_threads=num_threads)
