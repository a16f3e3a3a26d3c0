"""The Jaccard losses by hand; test_golden.py compares them with their references."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.losses import jaccard, soft_iou

# For four pixels with these probabilities, class 0 has an intersection of 1.1, probabilities that sum to 1.6, and two
# targets; class 1 has 1.5, 2.4 and two.
P = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]])
LOGITS = jnp.log(P)[None]
LABEL = jnp.array([[0, 0, 1, 1]])


@pytest.mark.parametrize("loss", [jaccard, soft_iou])
def test_a_single_image_by_hand(loss):
    assert float(loss(LOGITS, LABEL)) == pytest.approx(1 - (1.1 / 2.5 + 1.5 / 2.9) / 2, rel=1e-6)
    assert float(loss(LOGITS, LABEL, class_weights=(0.0, 1.0))) == pytest.approx(1 - 1.5 / 2.9, rel=1e-6)


def test_soft_iou_is_smoothed_by_hand():
    assert float(soft_iou(LOGITS, LABEL, smooth=1.0)) == pytest.approx(1 - (2.1 / 3.5 + 2.5 / 3.9) / 2, rel=1e-6)


def test_soft_iou_is_a_mean_over_the_pairs_of_image_and_class_that_are_present():
    logits = jnp.concatenate([LOGITS, LOGITS])
    label = jnp.concatenate([LABEL, jnp.array([[1, 1, 255, 1]])])
    # The second image has only class 1: 0.1 + 0.8 + 0.7 of its three pixels.
    expected = (1 - 1.1 / 2.5 + 1 - 1.5 / 2.9 + 1 - 1.6 / 3) / 3
    assert float(soft_iou(logits, label)) == pytest.approx(expected, rel=1e-6)
