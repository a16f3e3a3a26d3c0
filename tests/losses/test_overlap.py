"""Dice, Jaccard and Tversky losses by hand; test_losses_golden.py compares them with their references."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ConfigError
from flaxseg.losses import (
    dice,
    focal_tversky,
    generalized_dice,
    jaccard,
    log_cosh_dice,
    soft_iou,
    tversky,
)

FAMILY = (dice, log_cosh_dice, generalized_dice, jaccard, soft_iou, tversky, focal_tversky)

# Of four pixels with these probabilities, class 0 has an intersection of 1.1, probabilities of 1.6 and two targets;
# class 1 has 1.5, 2.4 and two.
P = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]])
LOGITS = jnp.log(P)[None]
LABEL = jnp.array([[0, 0, 1, 1]])


def test_by_hand():
    assert float(dice(LOGITS, LABEL)) == pytest.approx(1 - (2 * 1.1 / 3.6 + 2 * 1.5 / 4.4) / 2, rel=1e-6)
    assert float(jaccard(LOGITS, LABEL)) == pytest.approx(1 - (1.1 / 2.5 + 1.5 / 2.9) / 2, rel=1e-6)
    assert float(soft_iou(LOGITS, LABEL)) == pytest.approx(1 - (1.1 / 2.5 + 1.5 / 2.9) / 2, rel=1e-6)
    assert float(generalized_dice(LOGITS, LABEL)) == pytest.approx(1 - 2 * 2.6 / 8, rel=1e-6)


def test_tversky_by_hand():
    # Class 0: false positives 0.5, false negatives 0.9; class 1: 0.9 and 0.5.
    losses = 1 - 1.1 / (1.1 + 0.2 * 0.5 + 0.6 * 0.9), 1 - 1.5 / (1.5 + 0.2 * 0.9 + 0.6 * 0.5)
    options = {"alpha": 0.2, "beta": 0.6}
    assert float(tversky(LOGITS, LABEL, **options)) == pytest.approx(sum(losses) / 2, rel=1e-6)
    root = (math.sqrt(losses[0]) + math.sqrt(losses[1])) / 2
    assert float(focal_tversky(LOGITS, LABEL, gamma=2.0, **options)) == pytest.approx(root, rel=1e-6)


def test_smooth_is_added_above_and_below():
    assert float(dice(LOGITS, LABEL, smooth=1.0)) == pytest.approx(1 - (2.1 / 2.8 + 2.5 / 3.2) / 2, rel=1e-6)
    assert float(soft_iou(LOGITS, LABEL, smooth=1.0)) == pytest.approx(1 - (2.1 / 3.5 + 2.5 / 3.9) / 2, rel=1e-6)


def test_class_weights_weigh_the_mean_over_classes():
    expected = (1 * (1 - 2.2 / 3.6) + 3 * (1 - 3.0 / 4.4)) / 4
    assert float(dice(LOGITS, LABEL, class_weights=(1.0, 3.0))) == pytest.approx(expected, rel=1e-6)
    assert float(jaccard(LOGITS, LABEL, class_weights=(0.0, 1.0))) == pytest.approx(1 - 1.5 / 2.9, rel=1e-6)
    assert float(soft_iou(LOGITS, LABEL, class_weights=(0.0, 1.0))) == pytest.approx(1 - 1.5 / 2.9, rel=1e-6)
    expected = 1 - 2 * (1.1 + 2 * 1.5) / (3.6 + 2 * 4.4)
    assert float(generalized_dice(LOGITS, LABEL, class_weights=(1.0, 2.0))) == pytest.approx(expected, rel=1e-6)


def test_generalized_dice_weighs_classes_by_the_square_of_their_size():
    label = jnp.array([[0, 1, 1, 1]])
    # Intersections 0.9 and 2.3, sums 1.6 + 1 and 2.4 + 3.
    expected = 1 - 2 * (0.9 + 2.3 / 9) / (2.6 + 5.4 / 9)
    assert float(generalized_dice(LOGITS, label)) == pytest.approx(expected, rel=1e-6)


def test_only_the_proportions_of_class_weights_matter():
    for loss in (dice, generalized_dice, soft_iou):
        expected = loss(LOGITS, LABEL, class_weights=(1.0, 2.0))
        np.testing.assert_allclose(loss(LOGITS, LABEL, class_weights=(1e-9, 2e-9)), expected, rtol=1e-6)


def test_a_class_that_the_labels_lack():
    logits = jnp.pad(LOGITS, ((0, 0), (0, 0), (0, 1)), constant_values=-1.0)
    # The third class takes a share q of each pixel from the others.
    total = 1 + math.exp(-1)
    scores = 2 * 1.1 / total / (1.6 / total + 2), 2 * 1.5 / total / (2.4 / total + 2)
    assert float(dice(logits, LABEL)) == pytest.approx((2 - sum(scores)) / 3, rel=1e-6)
    assert float(dice(logits, LABEL, present_only=True)) == pytest.approx((2 - sum(scores)) / 2, rel=1e-6)
    assert float(dice(logits, LABEL, present_only=True, class_weights=(0.0, 0.0, 1.0))) == 0
    roots = (math.sqrt(1 - score) for score in scores)
    options = {"alpha": 0.5, "beta": 0.5, "gamma": 2.0, "present_only": True}
    assert float(focal_tversky(logits, LABEL, **options)) == pytest.approx(sum(roots) / 2, rel=1e-6)


def test_soft_iou_is_a_mean_over_the_pairs_of_picture_and_class_that_are_there():
    logits = jnp.concatenate([LOGITS, LOGITS])
    label = jnp.concatenate([LABEL, jnp.array([[1, 1, 255, 1]])])
    # The second picture has only class 1: 0.1 + 0.8 + 0.7 of its three pixels.
    expected = (1 - 1.1 / 2.5 + 1 - 1.5 / 2.9 + 1 - 1.6 / 3) / 3
    assert float(soft_iou(logits, label)) == pytest.approx(expected, rel=1e-6)


def test_log_cosh_dice_by_hand():
    loss = 1 - (2 * 1.1 / 3.6 + 2 * 1.5 / 4.4) / 2
    assert float(log_cosh_dice(LOGITS, LABEL)) == pytest.approx(math.log(math.cosh(loss)), rel=1e-6)


@pytest.mark.parametrize("loss", FAMILY)
def test_extreme_logits(loss):
    """All right is 0, all wrong the largest loss, and both have a finite gradient."""
    largest = math.log(math.cosh(1)) if loss is log_cosh_dice else 1
    gradient = jax.jit(jax.value_and_grad(loss))
    right = 1e4 * (2.0 * jax.nn.one_hot(LABEL, 2) - 1)
    for logits, expected in ((right, 0), (-right, largest)):
        value, slope = gradient(logits, LABEL)
        assert float(value) == pytest.approx(expected, abs=1e-6)
        assert np.isfinite(slope).all()


def test_no_gradient_is_infinite_where_a_class_is_right():
    """The slope of a root at 0 is infinite; a class of loss 0 stays as it is, and the others still learn."""
    right = jnp.array([[[200.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.0, 0.0]]])
    slope = jax.jit(jax.grad(functools.partial(focal_tversky, gamma=3.0)))(right, jnp.array([[0, 1, 2]]))
    assert np.isfinite(slope).all()
    assert (slope[0, 0] == 0).all()
    assert slope[0, 1, 1] < 0 < slope[0, 1, 2]


@pytest.mark.parametrize("loss", FAMILY)
def test_one_class_is_refused(loss):
    with pytest.raises(ConfigError, match=f"^num_classes = 1: {loss.__name__} needs logits of two classes at least"):
        loss(jnp.zeros((1, 2, 1)), jnp.zeros((1, 2), int))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (dice, {"smooth": -1}, "^smooth = -1: must be at least 0"),
        (jaccard, {"class_weights": (1.0,)}, "^class_weights = .*: 1 weights for 2 classes"),
        (generalized_dice, {"class_weights": (0.0, 0.0)}, "^class_weights = .*: must be at least 0 and not all 0"),
        (soft_iou, {"smooth": float("nan")}, "^smooth = nan: must be at least 0"),
        (tversky, {"alpha": -0.5}, "^alpha = -0.5: must be at least 0"),
        (tversky, {"beta": -0.5}, "^beta = -0.5: must be at least 0"),
        (focal_tversky, {"gamma": 0}, "^gamma = 0: must be above 0"),
    ],
)
def test_wrong_options(loss, options, message):
    with pytest.raises(ConfigError, match=message):
        loss(LOGITS, LABEL, **options)
