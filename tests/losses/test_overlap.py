"""What the Dice, Jaccard and Tversky losses have in common: extreme logits, class weights, and errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.errors import ArgumentError
from flaxseg.losses import (
    dice,
    focal_tversky,
    generalized_dice,
    jaccard,
    log_cosh_dice,
    soft_iou,
    tversky,
)

OVERLAP_LOSSES = (dice, log_cosh_dice, generalized_dice, jaccard, soft_iou, tversky, focal_tversky)

LOGITS = jnp.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]]))[None]
LABEL = jnp.array([[0, 0, 1, 1]])


def test_only_the_proportions_of_class_weights_matter():
    for loss in (dice, generalized_dice, soft_iou):
        expected = loss(LOGITS, LABEL, class_weights=(1.0, 2.0))
        np.testing.assert_allclose(loss(LOGITS, LABEL, class_weights=(1e-9, 2e-9)), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
def test_extreme_logits(loss):
    """Correct predictions have a loss of 0, wrong ones the largest loss, both with finite gradients."""
    largest = math.log(math.cosh(1)) if loss is log_cosh_dice else 1
    gradient = jax.jit(jax.value_and_grad(loss))
    correct = 1e4 * (2.0 * jax.nn.one_hot(LABEL, 2) - 1)
    for logits, expected in ((correct, 0), (-correct, largest)):
        value, slope = gradient(logits, LABEL)
        assert float(value) == pytest.approx(expected, abs=1e-6)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("loss", OVERLAP_LOSSES)
def test_a_single_class_is_rejected(loss):
    with pytest.raises(ArgumentError, match=f"^num_classes = 1: {loss.__name__} needs logits of at least two classes"):
        loss(jnp.zeros((1, 2, 1)), jnp.zeros((1, 2), int))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (dice, {"smooth": -1}, "^smooth = -1: must be a number of at least 0"),
        (jaccard, {"class_weights": (1.0,)}, "^class_weights = .*: 1 weights for 2 classes"),
        (generalized_dice, {"class_weights": (0.0, 0.0)}, "^class_weights = .*: must be .* at least 0, not all 0"),
        (soft_iou, {"smooth": float("nan")}, "^smooth = nan: must be a number of at least 0"),
        (tversky, {"alpha": -0.5}, "^alpha = -0.5: must be a number of at least 0"),
        (tversky, {"beta": -0.5}, "^beta = -0.5: must be a number of at least 0"),
        (focal_tversky, {"gamma": 0}, "^gamma = 0: must be a number above 0"),
    ],
)
def test_options_out_of_range(loss, options, message):
    with pytest.raises(ArgumentError, match=message):
        loss(LOGITS, LABEL, **options)
