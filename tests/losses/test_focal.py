"""Focal losses by hand and at their limits; test_golden.py compares them with their references."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from representatives import representatives

from flaxseg import losses
from flaxseg.errors import ArgumentError

P = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
LOGITS = jnp.log(P)
LABEL = jnp.array([0, 1, 255])


def compiled(loss):
    """Returns a loss whose operations are compiled together."""

    @functools.wraps(loss)
    def call(logits, label, **options):
        return jax.jit(functools.partial(loss, **options))(logits, label)

    return call


binary_cross_entropy, cross_entropy = compiled(losses.binary_cross_entropy), compiled(losses.cross_entropy)
binary_focal, focal = compiled(losses.binary_focal), compiled(losses.focal)


def test_by_hand():
    expected = -(0.5**2 * math.log(0.5) + 0.2**2 * math.log(0.8)) / 2
    assert float(focal(LOGITS, LABEL)) == pytest.approx(expected, rel=1e-6)
    expected = -(1 * 0.5**0.5 * math.log(0.5) + 3 * 0.2**0.5 * math.log(0.8)) / 4
    assert float(focal(LOGITS, LABEL, gamma=0.5, class_weights=(1.0, 3.0, 0.0))) == pytest.approx(expected, rel=1e-6)


def test_binary_by_hand():
    logits = jnp.log(jnp.array([[0.25], [3.0], [9.0]]))  # probabilities 0.2, 0.75, 0.9
    label = jnp.array([1, 0, 255])
    expected = -(0.8**2 * math.log(0.2) + 0.75**2 * math.log(0.25)) / 2
    assert float(binary_focal(logits, label)) == pytest.approx(expected, rel=1e-6)
    expected = -(0.1 * 0.8**1.5 * math.log(0.2) + 0.9 * 0.75**1.5 * math.log(0.25)) / 2
    assert float(binary_focal(logits, label, gamma=1.5, alpha=0.1)) == pytest.approx(expected, rel=1e-6)


def test_a_gamma_of_0_is_cross_entropy():
    weights = (1.0, 2.0, 0.5)
    np.testing.assert_allclose(
        focal(LOGITS, LABEL, gamma=0.0, class_weights=weights),
        cross_entropy(LOGITS, LABEL, class_weights=weights),
        rtol=1e-6,
    )
    np.testing.assert_allclose(binary_focal(LOGITS, LABEL, gamma=0.0), binary_cross_entropy(LOGITS, LABEL), rtol=1e-6)


@pytest.mark.parametrize("loss", [focal, binary_focal])
@pytest.mark.parametrize("gamma", representatives([0.0, 0.01, 0.5, 1.0, 2.0, 2.5], [0.0, 0.5, 2.0]))
def test_gradients_are_finite_at_extreme_logits(loss, gamma):
    """The derivative of (1 - p) ** gamma at p = 1 is infinite for a gamma below 1."""
    margin = jnp.array([-1e4, -100.0, -20.0, 0.0, 20.0, 86.0, 88.0, 100.0, 1e4])
    logits = jnp.stack([margin, -margin], -1)
    value, slope = jax.jit(jax.value_and_grad(functools.partial(loss, gamma=gamma)))(
        logits, jnp.zeros(len(margin), int)
    )
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    # Moving towards the correct class lowers the loss, or leaves it at its minimum.
    assert (slope[:, 0] <= 0).all()
    assert slope[0, 0] < 0 and slope[3, 0] < 0
    assert slope[-1, 0] == 0


def test_the_gradient_of_a_small_gamma_equals_finite_differences():
    loss = jax.jit(functools.partial(binary_focal, gamma=0.5))
    x = jnp.array([[0.3], [-1.2], [2.0]])
    label = jnp.array([0, 1, 1])
    slope = jax.jit(jax.grad(loss))(x, label)
    for pixel in range(3):
        step = jnp.zeros_like(x).at[pixel].set(1e-2)
        expected = (loss(x + step, label) - loss(x - step, label)) / 2e-2
        assert float(slope[pixel, 0]) == pytest.approx(float(expected), rel=1e-3)


def test_the_binary_gradient_at_logits_of_0_by_hand():
    slope = jax.jit(jax.grad(binary_focal))(jnp.zeros((2, 1)), jnp.array([1, 0]))
    # The derivative of -(1 - p)^2 log p by the logit is 2 p (1 - p)^2 log p - (1 - p)^3.
    expected = (math.log(0.5) / 4 - 1 / 8) / 2
    np.testing.assert_allclose(slope[:, 0], [expected, -expected], rtol=1e-6)


def test_softmax_and_one_against_the_rest_differ_by_hand():
    logits, label = jnp.zeros((1, 4)), jnp.array([2])
    assert float(focal(logits, label)) == pytest.approx(0.75**2 * math.log(4), rel=1e-6)
    assert float(binary_focal(logits, label)) == pytest.approx(0.5**2 * math.log(2), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (focal, {"gamma": -1}, "^gamma = -1: must be a number of at least 0"),
        (focal, {"class_weights": (1.0, 1.0)}, "^class_weights = .*: 2 weights for 3 classes"),
        (binary_focal, {"gamma": -1}, "^gamma = -1: must be a number of at least 0"),
        (binary_focal, {"alpha": 1.5}, "^alpha = 1.5: must be a number from 0 to 1"),
    ],
)
def test_options_out_of_range(loss, options, message):
    with pytest.raises(ArgumentError, match=message):
        loss(LOGITS, LABEL, **options)


def test_a_single_logit_is_rejected_by_the_multiclass_loss():
    with pytest.raises(ArgumentError, match="^num_classes = 1: focal needs logits of at least two classes"):
        focal(LOGITS[:, :1], LABEL)
