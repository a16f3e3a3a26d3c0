"""The Matthews correlation loss by hand; test_golden.py compares it with its reference."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.losses import mcc

LABEL = jnp.array([[0, 0], [1, 1]])
CORRECT = 1e4 * (2 * jax.nn.one_hot(LABEL, 2) - 1)


def test_by_hand():
    p = jnp.array([[[0.9, 0.1], [0.2, 0.8]], [[0.2, 0.8], [0.3, 0.7]]])
    # TP = 1.1, FN = 0.9, FP = 0.5, TN = 1.5 for class 0, and the reverse for class 1.
    expected = 1 - (1.1 * 1.5 - 0.5 * 0.9) / math.sqrt(1.6 * 2 * 2 * 2.4)
    assert float(mcc(jnp.log(p), LABEL)) == pytest.approx(expected, rel=1e-5)


def test_each_class_against_the_rest():
    logits = 50.0 * jax.nn.one_hot(jnp.array([0, 1, 2, 2]), 3)
    label = jnp.array([0, 1, 2, 1])
    # Class 0 is correct; class 1: TP 1, FN 1, TN 2; class 2: TP 1, FP 1, TN 2.
    expected = (0 + 2 * (1 - 2 / math.sqrt(1 * 2 * 2 * 3))) / 3
    assert float(mcc(logits, label)) == pytest.approx(expected, rel=1e-4)


def test_bounds_at_extreme_logits():
    gradient = jax.jit(jax.value_and_grad(mcc))
    for logits, expected in ((CORRECT, 0), (-CORRECT, 2)):
        value, slope = gradient(logits, LABEL)
        assert float(value) == pytest.approx(expected, abs=1e-4)
        assert np.isfinite(slope).all()


def test_labels_of_a_single_class():
    """As documented, 1/2 if all predictions are correct and about 1 otherwise, with finite gradients."""
    gradient = jax.jit(jax.value_and_grad(mcc))
    label = jnp.zeros_like(LABEL)
    for logits, expected in (
        (jnp.full_like(CORRECT, 1e4).at[..., 1].set(-1e4), 0.5),
        (0 * CORRECT, 1.0),
        (CORRECT, 1.0),
    ):
        value, slope = gradient(logits, label)
        assert float(value) == pytest.approx(expected, abs=0.01)
        assert np.isfinite(slope).all()


def test_a_single_logit_is_rejected():
    with pytest.raises(ArgumentError, match="^num_classes = 1: mcc needs logits of at least two classes"):
        mcc(CORRECT[..., :1], LABEL)
