"""Poly-1 cross-entropy by hand; test_golden.py compares it with a formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.losses import poly_cross_entropy

LOGITS = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8], [0.1, 0.9]]))
LABEL = jnp.array([0, 1, 255])


def test_by_hand():
    expected = (-math.log(0.5) + 2 * 0.5 - math.log(0.8) + 2 * 0.2) / 2
    assert float(poly_cross_entropy(LOGITS, LABEL, epsilon=2.0)) == pytest.approx(expected, rel=1e-6)
    expected = (-math.log(0.5) + 0.5 + 3 * (-math.log(0.8) + 0.2)) / 4
    assert float(poly_cross_entropy(LOGITS, LABEL, class_weights=(1.0, 3.0))) == pytest.approx(expected, rel=1e-6)


def test_an_epsilon_of_minus_1_removes_the_linear_term():
    """With q = 1 - p, the remaining terms are q ** 2 / 2 + q ** 3 / 3 + ..."""
    q = 1e-2
    logits = jnp.log(jnp.array([[1 - q, q]]))
    expected = sum(q**n / n for n in range(2, 8))
    value = poly_cross_entropy(logits, jnp.array([0]), epsilon=-1)
    assert float(value) == pytest.approx(expected, abs=1e-8)


def test_extreme_logits():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    value, slope = jax.value_and_grad(poly_cross_entropy)(logits, jnp.zeros(2, int))
    assert float(value) == pytest.approx((2e4 + 1) / 2)
    np.testing.assert_allclose(slope, [[0, 0], [-0.5, 0.5]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -2}, "^epsilon = -2: must be a number of at least -1"),
        ({"class_weights": (1.0, -1.0)}, "^class_weights = .*: must be numbers of at least 0, not all 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        poly_cross_entropy(LOGITS, LABEL, **options)


def test_a_single_logit_is_rejected():
    with pytest.raises(
        ArgumentError, match="^num_classes = 1: poly_cross_entropy needs logits of at least two classes"
    ):
        poly_cross_entropy(LOGITS[:, :1], LABEL)
