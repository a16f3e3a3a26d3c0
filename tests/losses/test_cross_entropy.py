"""Cross-entropy by hand, compared with optax, and its invariants."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.losses import cross_entropy


@pytest.fixture(scope="module")
def pixels():
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.random.normal(keys[0], (2, 5, 7, 4)), jax.random.randint(keys[1], (2, 5, 7), 0, 4).astype(jnp.uint8)


def test_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    value = cross_entropy(logits, jnp.array([0, 1]))
    assert float(value) == pytest.approx((-math.log(0.5) - math.log(0.8)) / 2, rel=1e-6)


def test_class_weights_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8]]))
    value = cross_entropy(logits, jnp.array([0, 1]), class_weights=(1.0, 3.0))
    assert float(value) == pytest.approx((-math.log(0.5) - 3 * math.log(0.8)) / 4, rel=1e-6)


def test_label_smoothing_with_class_weights_by_hand():
    p, w, smoothing = np.array([0.5, 0.3, 0.2]), np.array([1.0, 2.0, 4.0]), 0.3
    expected = (0.7 * -w[1] * math.log(p[1]) + smoothing / 3 * -(w * np.log(p)).sum()) / w[1]
    value = cross_entropy(jnp.log(p)[None], jnp.array([1]), class_weights=tuple(w), label_smoothing=smoothing)
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_equals_optax(pixels):
    logits, label = pixels
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, label.astype(int)).mean()
    np.testing.assert_allclose(cross_entropy(logits, label), expected, rtol=1e-6)


def test_ignored_pixels_have_no_effect_and_zero_gradient(pixels):
    logits, label = pixels
    ignored = label.at[:, 2:4].set(255)
    kept = jnp.delete(logits, jnp.arange(2, 4), axis=1), jnp.delete(label, jnp.arange(2, 4), axis=1)
    options = {"class_weights": (1.0, 2.0, 0.5, 0.0), "label_smoothing": 0.1}
    value, gradient = jax.value_and_grad(lambda x: cross_entropy(x, ignored, **options))(logits)
    np.testing.assert_allclose(value, cross_entropy(*kept, **options), rtol=1e-6)
    assert (gradient[:, 2:4] == 0).all()
    assert (jnp.abs(gradient[:, :2]).max(-1) > 0).all()


def test_loss_and_gradient_are_zero_if_all_pixels_are_ignored(pixels):
    logits, label = pixels
    value, gradient = jax.value_and_grad(cross_entropy)(logits, jnp.full_like(label, 255))
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("wrong", [-1, 4, 200])
def test_an_out_of_range_label_yields_nan(pixels, wrong):
    logits, label = pixels
    assert np.isnan(cross_entropy(logits, label.astype(jnp.int32).at[0, 0, 0].set(wrong)))


def test_bfloat16_logits_are_summed_in_float32(pixels):
    logits, label = pixels
    rounded = logits.astype(jnp.bfloat16)
    value = cross_entropy(rounded, label)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, cross_entropy(rounded.astype(jnp.float32), label), rtol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, -1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0)])
def test_class_weights_out_of_range(pixels, weights):
    with pytest.raises(ArgumentError, match=r"class_weights = \("):
        cross_entropy(*pixels, class_weights=weights)


def test_label_smoothing_out_of_range(pixels):
    with pytest.raises(ArgumentError, match=r"label_smoothing = 2: must be a number from 0 to 1"):
        cross_entropy(*pixels, label_smoothing=2)
