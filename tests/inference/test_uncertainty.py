"""Uncertainty by hand, and temperatures that are known or that no other beats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from flaxseg.inference.uncertainty import (
    apply_temperature,
    disagreement,
    entropy,
    fit_temperature,
    margin,
    relative_uncertainty,
)

KEY = jax.random.key(0)


def test_entropy_by_hand():
    given = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(entropy(given), [0, np.log(4), np.log(2)], atol=1e-6)


def test_margin_by_hand():
    given = jnp.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    np.testing.assert_allclose(margin(given), [1, 0.2, 0], atol=1e-6)


def test_disagreement_by_hand():
    agreeing = jnp.array([[0.7, 0.3], [0.7, 0.3]])
    opposed = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    # A certain member beside an uncertain one: H(3/4, 1/4) - log(2) / 2.
    mixed = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    result = disagreement(jnp.stack([agreeing, opposed, mixed], 1))
    expected = 0.75 * np.log(4 / 3) + 0.25 * np.log(4) - np.log(2) / 2
    np.testing.assert_allclose(result, [0, np.log(2), expected], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("entropy", [0, np.log(2), np.log(4)], [0, 0.5, 1]),
        ("margin", [1, 0.25, 0], [0, 0.75, 1]),
        ("disagreement", [0, np.log(2) / 2, np.log(2)], [0, 0.5, 1]),
    ],
)
def test_relative_uncertainty_is_0_where_certain_and_at_most_1(kind, values, expected):
    np.testing.assert_allclose(relative_uncertainty(kind, np.array(values), num_classes=4, members=2), expected)
    assert not relative_uncertainty("disagreement", np.zeros(3), num_classes=4, members=1).any()


def labeled_logits(temperature, shape=(2, 40, 50), classes=4):
    """Returns logits, and labels drawn from their distribution at a temperature; a fifth of them is ignored."""
    logits = 3 * jax.random.normal(KEY, (*shape, classes))
    labels = jax.random.categorical(jax.random.key(1), logits / temperature)
    ignored = jax.random.uniform(jax.random.key(2), shape) < 0.2
    return logits, jnp.where(ignored, 255, labels).astype(jnp.uint8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_is_the_one_of_the_labels(temperature):
    assert float(fit_temperature(*labeled_logits(temperature))) == pytest.approx(temperature, rel=0.1)


def test_no_temperature_is_more_likely():
    logits, labels = labeled_logits(2.0)
    valid = np.asarray(labels) != 255
    z, y = np.asarray(logits, np.float64)[valid], np.asarray(labels)[valid]

    def loss(temperature):
        return (special.logsumexp(z / temperature, axis=-1) - z[np.arange(len(y)), y] / temperature).mean()

    best = optimize.minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9})
    assert float(fit_temperature(logits, labels)) == pytest.approx(best.x, rel=1e-4)


def test_ignored_pixels_are_excluded_exactly():
    logits, labels = labeled_logits(2.0)
    spoiled = jnp.where((labels == 255)[..., None], jnp.nan, logits)
    assert fit_temperature(spoiled, labels) == fit_temperature(logits, labels)


def test_extreme_labels():
    logits, labels = labeled_logits(1.0)
    assert float(fit_temperature(logits, jnp.full_like(labels, 255))) == 1
    assert float(fit_temperature(logits, logits.argmax(-1))) == pytest.approx(0.01, rel=1e-5)
    assert float(fit_temperature(logits, logits.argmin(-1))) == pytest.approx(100, rel=1e-5)
    assert jnp.isnan(fit_temperature(logits, jnp.full_like(labels, 4)))


def test_a_temperature_keeps_the_best_class():
    logits, _ = labeled_logits(1.0)
    np.testing.assert_array_equal(apply_temperature(logits, 5.0).argmax(-1), logits.argmax(-1))
    np.testing.assert_allclose(apply_temperature(jnp.array([0.0, 2.0]), 2.0), special.softmax([0, 1]), rtol=1e-6)
