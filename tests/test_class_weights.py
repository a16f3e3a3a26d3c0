"""Class weights against values worked out by hand from the papers' formulas."""

import math

import numpy as np
import pytest

from flaxseg.class_weights import WEIGHTINGS, effective_number_weights, log_weights, median_frequency_weights

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
    # Twice the pictures, or as many pixels as large data sets have, change nothing.
    many = COUNTS * 10**9
    np.testing.assert_allclose(weighting(np.concatenate([many, many])), weighting(many), rtol=1e-6)
    assert np.ptp(weighting(np.full((5, 3), 2**50))) == 0
