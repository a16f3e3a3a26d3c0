"""Binary cross-entropy by hand; test_golden.py compares it with its reference."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.losses import binary_cross_entropy

# Probabilities 0.2, 0.75 and 0.9.
LOGITS = jnp.log(jnp.array([[0.25], [3.0], [9.0]]))
LABEL = jnp.array([1, 0, 255])


def test_a_single_class_by_hand():
    expected = -(math.log(0.2) + math.log(0.25)) / 2
    assert float(binary_cross_entropy(LOGITS, LABEL)) == pytest.approx(expected, rel=1e-6)


def test_each_class_against_the_rest_by_hand():
    logits = jnp.log(jnp.array([[0.25, 3.0]]))
    expected = -(math.log(0.8) + math.log(0.75)) / 2
    assert float(binary_cross_entropy(logits, jnp.array([1]))) == pytest.approx(expected, rel=1e-6)


def test_smoothing_and_weights_by_hand():
    expected = -(2 * 0.9 * math.log(0.2) + 0.1 * math.log(0.8) + 2 * 0.1 * math.log(0.75) + 0.9 * math.log(0.25)) / 2
    value = binary_cross_entropy(LOGITS, LABEL, label_smoothing=0.1, pos_weight=(2.0,))
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_extreme_logits():
    value, slope = jax.value_and_grad(binary_cross_entropy)(jnp.array([[1e4], [-1e4]]), jnp.array([1, 1]))
    assert float(value) == pytest.approx(1e4 / 2)
    np.testing.assert_allclose(slope[:, 0], [0, -0.5])


def test_the_gradient_at_logits_of_0_by_hand():
    slope = jax.grad(binary_cross_entropy)(jnp.zeros((2, 1)), jnp.array([1, 0]))
    np.testing.assert_allclose(slope[:, 0], [-0.25, 0.25])


def test_labels_of_a_single_class_are_0_and_1():
    assert np.isnan(binary_cross_entropy(LOGITS, jnp.array([1, 0, 2])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": -0.1}, "^label_smoothing = -0.1: must be a number from 0 to 1"),
        ({"pos_weight": (1.0, 2.0)}, "^pos_weight = .*: 2 weights for 1 classes; give one per class"),
        ({"pos_weight": (-1.0,)}, "^pos_weight = .*: must be numbers of at least 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        binary_cross_entropy(LOGITS, LABEL, **options)
