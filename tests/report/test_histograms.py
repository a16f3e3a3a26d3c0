"""Histograms count every finite value once."""

import numpy as np

from flaxseg.report.histograms import histogram, histogram_summaries


def test_values_are_counted_in_equal_buckets():
    table = histogram(np.array([[0.0, 0.1, 30.0], [1.0, 29.5, 30.0]], np.float32))
    assert table.shape == (30, 3) and table.dtype == np.float64
    np.testing.assert_allclose(table[:, 0], np.arange(30), atol=1e-12)
    np.testing.assert_allclose(table[:, 1], np.arange(1, 31), atol=1e-12)
    np.testing.assert_array_equal(table[:, 2], [2, 1, *[0] * 27, 3])


def test_equal_values_are_one_bucket_and_values_that_are_not_finite_are_left_out():
    np.testing.assert_array_equal(histogram(np.full(5, 2.0)), [[2, 2, 5]])
    np.testing.assert_array_equal(histogram(np.array([np.nan, 3, np.inf, -np.inf, 3])), [[3, 3, 2]])
    arrays = {"a": np.ones(2), "b": np.array([np.nan]), "c": np.zeros((0, 3))}
    assert histogram_summaries(arrays).keys() == {"a"}
