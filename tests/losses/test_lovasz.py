"""The Lovasz losses by hand, by their definition, and as an extension of the Jaccard loss."""

import jax
import numpy as np
import pytest

from flaxseg import losses

lovasz_softmax = jax.jit(losses.lovasz_softmax, static_argnames=("present_only", "per_image"))
lovasz_hinge = jax.jit(losses.lovasz_hinge, static_argnames="per_image")

LABEL = np.array([[0, 0, 1, 2, 255], [1, 2, 2, 0, 255]], np.uint8)


def certain(prediction):
    """Returns logits whose probabilities are exactly 0 and 1."""
    return np.float32(1e4) * (prediction[..., None] == np.arange(3))


def jaccard_increments(error, foreground):
    """Returns what each pixel adds to the Jaccard loss of the pixels with larger errors, float64[N]."""
    order = np.argsort(-error, kind="stable")
    wrong = np.concatenate([[0], np.cumsum(~foreground[order])]), np.concatenate([[0], np.cumsum(foreground[order])])
    added, missed = np.float64(wrong)
    loss = 1 - (foreground.sum() - missed) / np.maximum(foreground.sum() + added, 1)
    steps = np.empty(error.size)
    steps[order] = np.diff(loss)
    return steps


def test_softmax_by_hand():
    logits = np.log(np.array([[0.75, 0.25], [0.5, 0.5], [0.9, 0.1]]))
    # Class 0: errors 0.5 (background) and 0.25, hence 0.5 * 1/2 + 0.25 * 1/2. Class 1: 0.5 (foreground) only.
    value, gradient = jax.jit(jax.value_and_grad(lovasz_softmax))(logits, np.array([0, 1, 255]))
    assert float(value) == pytest.approx((0.375 + 0.5) / 2, rel=1e-6)
    # The second pixel, with p (1 - p) = 1/4: half of 1/2 for class 0, half of 1 for class 1.
    np.testing.assert_allclose(gradient[1], [(0.25 + 0.5) / 4, -(0.25 + 0.5) / 4], rtol=1e-6)


def test_the_loss_of_certain_predictions_is_the_jaccard_loss():
    prediction = np.array([[0, 1, 1, 2, 0], [1, 2, 1, 0, 1]])
    # Intersection over union: 2/3, 2/4, 2/3.
    expected = 1 - (2 / 3 + 2 / 4 + 2 / 3) / 3
    assert float(lovasz_softmax(certain(prediction), LABEL)) == pytest.approx(expected, rel=1e-6)


def test_an_absent_class_has_its_largest_error_as_loss_or_is_excluded():
    label = np.array([0, 1, 255])
    logits = np.log(np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.1, 0.1, 0.8]]))
    present = float(lovasz_softmax(logits, label))
    every = float(lovasz_softmax(logits, label, present_only=False))
    assert every == pytest.approx((2 * present + 0.2) / 3, rel=1e-6)


@pytest.mark.parametrize("loss", [lovasz_softmax, lovasz_hinge])
def test_per_image_is_the_mean_over_images_with_valid_pixels(loss):
    logits = np.asarray(jax.random.normal(jax.random.key(0), (3, 5, 3)))
    label = np.concatenate([LABEL, np.full((1, 5), 255, np.uint8)])
    first, second = (float(loss(logits[i], label[i])) for i in (0, 1))
    assert first != pytest.approx(second, rel=0.01)
    assert float(loss(logits, label, per_image=True)) == pytest.approx((first + second) / 2, rel=1e-6)


def test_hinge_by_hand():
    # Errors 1 - 0.5, 1 + 2 and 0; the foreground is pixels 0 and 1, so that missing one of them costs half.
    logits, label = np.array([[0.5], [-2.0], [-1.5], [9.0]]), np.array([1, 1, 0, 255])
    value, gradient = jax.jit(jax.value_and_grad(lovasz_hinge))(logits, label)
    assert float(value) == pytest.approx(0.5 / 2 + 3 / 2)
    np.testing.assert_allclose(gradient[:, 0], [-0.5, -0.5, 0, 0], rtol=1e-6)


def test_hinge_of_two_classes_uses_the_difference_and_of_more_the_mean_over_classes():
    logits = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, 3)))
    alone = [lovasz_hinge(logits[..., k : k + 1], np.where(LABEL == 255, 255, k == LABEL)) for k in range(3)]
    assert float(lovasz_hinge(logits, LABEL)) == pytest.approx(float(sum(alone)) / 3, rel=1e-6)
    label = np.where(LABEL == 2, 1, LABEL)
    difference = lovasz_hinge(logits[..., 1:2] - logits[..., :1], label)
    assert float(lovasz_hinge(logits[..., :2], label)) == pytest.approx(float(difference), rel=1e-6)


def test_each_increment_is_exact_among_many_pixels():
    random, number = np.random.default_rng(0), 2**16
    # No two errors are equal, and all are exact in float32.
    scores = random.permutation(np.arange(number) - number // 2 + 0.25).astype(np.float32) / 2**14
    label = random.random(number) < 0.3
    error = np.maximum(1 - scores * np.where(label, 1, -1), 0)
    steps = np.where(error > 0, jaccard_increments(error, label), 0)
    value, gradient = jax.jit(jax.value_and_grad(lovasz_hinge))(scores[:, None], label.astype(np.int32))
    np.testing.assert_allclose(value, (error * steps).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0], np.where(label, -steps, steps), rtol=1e-5)
