"""Which pixels online hard example mining keeps, by hand; test_golden.py compares the loss with a formula."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxseg import losses
from flaxseg.errors import ArgumentError

P = np.array([0.9, 0.6, 0.95, 0.3, 0.8, 0.99, 0.85, 0.9])
"""The probability of the correct class in eight pixels."""
LOGITS = jnp.log(jnp.stack([P, 1 - P], -1))
LABEL = jnp.zeros(8, int)


def compiled(loss, logits, label, **options):
    return jax.jit(functools.partial(loss, **options))(logits, label)


cross_entropy = functools.partial(compiled, losses.cross_entropy)
ohem_cross_entropy = functools.partial(compiled, losses.ohem_cross_entropy)


def kept(logits=LOGITS, label=LABEL, **options):
    """Returns the indices of the pixels with a gradient."""
    slope = jax.jit(jax.grad(functools.partial(losses.ohem_cross_entropy, **options)))(logits, label)
    return set(np.flatnonzero(np.abs(slope).max(-1)))


def test_by_hand():
    expected = -(math.log(0.6) + math.log(0.3)) / 2
    assert float(ohem_cross_entropy(LOGITS, LABEL)) == pytest.approx(expected, rel=1e-6)
    # The fourth pixel now belongs to the other class, whose probability there is 0.7.
    value = ohem_cross_entropy(LOGITS, LABEL.at[3].set(1), threshold=0.75, class_weights=(2.0, 1.0))
    assert float(value) == pytest.approx(-(2 * math.log(0.6) + math.log(0.7)) / 3, rel=1e-6)


def test_which_pixels_are_kept():
    assert kept() == {1, 3}
    assert kept(threshold=0.82) == {1, 3, 4}
    assert kept(threshold=0.5) == {3}
    assert kept(threshold=0.0, min_kept=0.0) == set()


def test_a_minimum_fraction_is_kept():
    assert kept(threshold=0.0, min_kept=1 / 8) == {3}
    assert kept(threshold=0.0, min_kept=3 / 8) == {1, 3, 4}
    assert kept(min_kept=3 / 8) == {1, 3, 4}
    assert kept(min_kept=0.3) == {1, 3, 4}  # 2.4 pixels, rounded up
    assert kept(min_kept=1.0) == set(range(8))


def test_ties_with_the_last_kept_pixel_are_kept():
    assert kept(min_kept=5 / 8) == {0, 1, 3, 4, 6, 7}


def test_the_fraction_is_of_the_valid_pixels():
    label = LABEL.at[jnp.array([1, 3, 4, 6])].set(255)
    assert kept(label=label, threshold=0.0, min_kept=1 / 2) == {0, 7}


def test_keeping_all_pixels_is_cross_entropy():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(2, 3, 5, 4)).astype(np.float32), rng.integers(0, 4, (2, 3, 5))
    label[0, 0] = 255
    expected = cross_entropy(logits, label, class_weights=(1.0, 2.0, 0.0, 1.0))
    value = ohem_cross_entropy(logits, label, min_kept=1.0, class_weights=(1.0, 2.0, 0.0, 1.0))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_any_fraction_keeps_the_pixels_that_sorting_selects():
    rng = np.random.default_rng(2)
    logits = (rng.normal(size=(257, 3)) * [[1.0, 20.0, 1e3]]).astype(np.float32)
    label = rng.integers(0, 3, 257)
    each = np.sort(jax.jit(optax.softmax_cross_entropy_with_integer_labels)(logits, label))[::-1]
    for number in (1, 2, 100, 255):
        value = ohem_cross_entropy(logits, label, threshold=0.0, min_kept=number / 257)
        assert float(value) == pytest.approx(each[each >= each[number - 1]].mean(), rel=1e-6)


def test_extreme_logits():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]])
    value, slope = jax.jit(jax.value_and_grad(losses.ohem_cross_entropy))(logits, jnp.zeros(3, int))
    assert float(value) == pytest.approx((2e4 + math.log(2)) / 2)
    assert np.isfinite(slope).all()


def test_an_out_of_range_label_yields_nan_even_if_no_pixel_is_hard():
    loss = functools.partial(losses.ohem_cross_entropy, threshold=0.0, min_kept=0.0)
    assert np.isnan(loss(LOGITS, LABEL.at[0].set(7)))
    assert np.isnan(jax.jit(loss)(LOGITS, LABEL.at[0].set(7)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "^threshold = 1.5: must be a number from 0 to 1"),
        ({"min_kept": 100000}, "^min_kept = 100000: must be a number from 0 to 1"),
        ({"class_weights": (1.0,)}, "^class_weights = .*: 1 weights for 2 classes"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        ohem_cross_entropy(LOGITS, LABEL, **options)


def test_a_single_logit_is_rejected():
    with pytest.raises(
        ArgumentError, match="^num_classes = 1: ohem_cross_entropy needs logits of at least two classes"
    ):
        ohem_cross_entropy(LOGITS[:, :1], LABEL)
