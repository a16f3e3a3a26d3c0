"""The Tversky losses by hand; test_golden.py compares them with their references."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.losses import focal_tversky, tversky

# For four pixels with these probabilities, class 0 has an intersection of 1.1, probabilities that sum to 1.6, and two
# targets; class 1 has 1.5, 2.4 and two.
P = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]])
LOGITS = jnp.log(P)[None]
LABEL = jnp.array([[0, 0, 1, 1]])


def test_by_hand():
    # Class 0: false positives 0.5, false negatives 0.9; class 1: 0.9 and 0.5.
    losses = 1 - 1.1 / (1.1 + 0.2 * 0.5 + 0.6 * 0.9), 1 - 1.5 / (1.5 + 0.2 * 0.9 + 0.6 * 0.5)
    options = {"alpha": 0.2, "beta": 0.6}
    assert float(tversky(LOGITS, LABEL, **options)) == pytest.approx(sum(losses) / 2, rel=1e-6)
    root = (math.sqrt(losses[0]) + math.sqrt(losses[1])) / 2
    assert float(focal_tversky(LOGITS, LABEL, gamma=2.0, **options)) == pytest.approx(root, rel=1e-6)


def test_classes_absent_from_the_labels_are_excluded():
    logits = jnp.pad(LOGITS, ((0, 0), (0, 0), (0, 1)), constant_values=-1.0)
    # The third class takes a fraction of each pixel's probability from the other two.
    total = 1 + math.exp(-1)
    scores = 2 * 1.1 / total / (1.6 / total + 2), 2 * 1.5 / total / (2.4 / total + 2)
    roots = (math.sqrt(1 - score) for score in scores)
    options = {"alpha": 0.5, "beta": 0.5, "gamma": 2.0, "present_only": True}
    assert float(focal_tversky(logits, LABEL, **options)) == pytest.approx(sum(roots) / 2, rel=1e-6)


def test_the_gradient_is_finite_where_a_class_is_correct():
    """A root has an infinite derivative at 0: a class of loss 0 has a gradient of 0, and the others still learn."""
    logits = jnp.array([[[200.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.0, 0.0]]])
    slope = jax.jit(jax.grad(functools.partial(focal_tversky, gamma=3.0)))(logits, jnp.array([[0, 1, 2]]))
    assert np.isfinite(slope).all()
    assert (slope[0, 0] == 0).all()
    assert slope[0, 1, 1] < 0 < slope[0, 1, 2]
