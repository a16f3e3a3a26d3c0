"""Poly-1 cross-entropy by hand; test_losses_golden.py compares it with a formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ConfigError
from flaxseg.losses import poly_cross_entropy

LOGITS = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8], [0.1, 0.9]]))
LABEL = jnp.array([0, 1, 255])


def test_by_hand():
    expected = (-math.log(0.5) + 2 * 0.5 - math.log(0.8) + 2 * 0.2) / 2
    assert float(poly_cross_entropy(LOGITS, LABEL, epsilon=2.0)) == pytest.approx(expected, rel=1e-6)
    expected = (-math.log(0.5) + 0.5 + 3 * (-math.log(0.8) + 0.2)) / 4
    assert float(poly_cross_entropy(LOGITS, LABEL, class_weights=(1.0, 3.0))) == pytest.approx(expected, rel=1e-6)


def test_an_epsilon_of_minus_1_takes_away_the_first_power_of_what_is_missing():
    """What is left, of a missing probability q, is q ** 2 / 2 + q ** 3 / 3 + ..."""
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
        ({"epsilon": -2}, "^epsilon = -2: must be at least -1"),
        ({"class_weights": (1.0, -1.0)}, "^class_weights = .*: must be at least 0 and not all 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        poly_cross_entropy(LOGITS, LABEL, **options)


def test_one_logit_is_refused():
    with pytest.raises(ConfigError, match="^num_classes = 1: poly_cross_entropy needs logits of two classes at least"):
        poly_cross_entropy(LOGITS[:, :1], LABEL)
