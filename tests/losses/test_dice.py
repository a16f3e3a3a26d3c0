"""The Dice losses by hand; test_golden.py compares them with their references."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.losses import dice, generalized_dice, log_cosh_dice

# For four pixels with these probabilities, class 0 has an intersection of 1.1, probabilities that sum to 1.6, and two
# targets; class 1 has 1.5, 2.4 and two.
P = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]])
LOGITS = jnp.log(P)[None]
LABEL = jnp.array([[0, 0, 1, 1]])


def test_dice_by_hand():
    assert float(dice(LOGITS, LABEL)) == pytest.approx(1 - (2 * 1.1 / 3.6 + 2 * 1.5 / 4.4) / 2, rel=1e-6)


def test_dice_is_smoothed_by_hand():
    assert float(dice(LOGITS, LABEL, smooth=1.0)) == pytest.approx(1 - (2.1 / 2.8 + 2.5 / 3.2) / 2, rel=1e-6)


def test_class_weights_of_dice_by_hand():
    expected = (1 * (1 - 2.2 / 3.6) + 3 * (1 - 3.0 / 4.4)) / 4
    assert float(dice(LOGITS, LABEL, class_weights=(1.0, 3.0))) == pytest.approx(expected, rel=1e-6)


def test_classes_absent_from_the_labels():
    logits = jnp.pad(LOGITS, ((0, 0), (0, 0), (0, 1)), constant_values=-1.0)
    # The third class takes a fraction of each pixel's probability from the other two.
    total = 1 + math.exp(-1)
    scores = 2 * 1.1 / total / (1.6 / total + 2), 2 * 1.5 / total / (2.4 / total + 2)
    assert float(dice(logits, LABEL)) == pytest.approx((2 - sum(scores)) / 3, rel=1e-6)
    assert float(dice(logits, LABEL, present_only=True)) == pytest.approx((2 - sum(scores)) / 2, rel=1e-6)
    assert float(dice(logits, LABEL, present_only=True, class_weights=(0.0, 0.0, 1.0))) == 0


def test_log_cosh_dice_by_hand():
    loss = 1 - (2 * 1.1 / 3.6 + 2 * 1.5 / 4.4) / 2
    assert float(log_cosh_dice(LOGITS, LABEL)) == pytest.approx(math.log(math.cosh(loss)), rel=1e-6)


def test_generalized_dice_by_hand():
    assert float(generalized_dice(LOGITS, LABEL)) == pytest.approx(1 - 2 * 2.6 / 8, rel=1e-6)


def test_generalized_dice_weights_classes_by_the_inverse_square_of_their_size():
    label = jnp.array([[0, 1, 1, 1]])
    # Intersections 0.9 and 2.3, sums 1.6 + 1 and 2.4 + 3.
    expected = 1 - 2 * (0.9 + 2.3 / 9) / (2.6 + 5.4 / 9)
    assert float(generalized_dice(LOGITS, label)) == pytest.approx(expected, rel=1e-6)


def test_class_weights_of_generalized_dice_by_hand():
    expected = 1 - 2 * (1.1 + 2 * 1.5) / (3.6 + 2 * 4.4)
    assert float(generalized_dice(LOGITS, LABEL, class_weights=(1.0, 2.0))) == pytest.approx(expected, rel=1e-6)


def test_classes_absent_from_the_labels_have_no_part_in_generalized_dice():
    logits = jnp.pad(LOGITS, ((0, 0), (0, 0), (0, 1)), constant_values=-1.0)
    # The third class takes a fraction of each pixel's probability from the other two, whose weights are equal.
    total = 1 + math.exp(-1)
    expected = 1 - 2 * (2.6 / total) / (4 / total + 4)
    assert float(generalized_dice(logits, LABEL)) == pytest.approx(expected, rel=1e-6)
