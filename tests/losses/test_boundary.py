"""The boundary loss by hand, compared with SciPy's distance transform, and its invariants."""

import jax
import numpy as np
import pytest
from scipy import ndimage, special

from flaxseg import losses
from flaxseg.errors import ArgumentError

boundary = jax.jit(losses.boundary, static_argnames="foreground_weights")


@pytest.fixture(scope="module")
def images():
    label = np.zeros((2, 9, 7), np.uint8)
    label[0, 2:6, 1:5], label[0, 6:, 3:], label[1, 4:, :3] = 1, 2, 2
    return np.asarray(jax.random.normal(jax.random.key(0), (*label.shape, 3))), label


def signed_distance(inside):
    """Returns the distance map of one image as the authors define it: 0 along the inner side of the boundary."""
    outer, inner = ndimage.distance_transform_edt(~inside), ndimage.distance_transform_edt(inside)
    return np.where(inside, 1 - inner, outer)


def test_by_hand():
    logits = np.log(np.array([[[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]]))
    # Signed distances to the two pixels on the right: 2, 1, 0 and, inside, -1; in units of 2.
    value = boundary(logits, np.array([[0, 0, 1, 1]]))
    assert float(value) == pytest.approx((2 * 0.9 + 0.8 - 0.4) / 2 / 4, rel=1e-6)


def test_distances_equal_scipys(images):
    logits, label = images
    distance = np.stack([[signed_distance(np.asarray(one == k)) for k in (1, 2)] for one in label])
    distance[1, 0] = 0  # the second image has no class 1
    probability = np.moveaxis(special.softmax(logits, -1), -1, 1)[:, 1:]
    expected = (probability * distance).sum(1).mean() / np.sqrt(9 * 7)
    assert float(boundary(logits, label)) == pytest.approx(expected, rel=1e-5)


def test_distances_are_measured_across_ignored_pixels():
    logits = np.zeros((1, 5, 2), np.float32)
    # Distances to the 1: 3, 2, ignored. The 1 has ignored neighbors; the nearest 0 is 2 away.
    value = boundary(logits, np.array([[0, 0, 255, 1, 255]]))
    assert float(value) == pytest.approx(0.5 * (3 + 2 + (1 - 2)) / np.sqrt(3) / 3, rel=1e-6)


def test_padding_with_ignored_pixels_has_no_effect(images):
    logits, label = images
    padding = ((0, 0), (2, 3), (1, 4))
    padded = np.pad(logits, (*padding, (0, 0)), constant_values=5), np.pad(label, padding, constant_values=255)
    np.testing.assert_allclose(boundary(*padded), boundary(logits, label), rtol=1e-6)


def test_classes_without_a_boundary_contribute_nothing(images):
    logits, label = images
    everywhere = np.where(np.arange(7) == 3, 255, np.ones_like(label))
    value, gradient = jax.jit(jax.value_and_grad(boundary))(logits, everywhere)
    assert value == 0
    assert (gradient == 0).all()


def test_the_loss_is_a_sum_over_classes_without_the_background(images):
    by_class = [float(boundary(*images, foreground_weights=weights)) for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert float(boundary(*images)) == pytest.approx(by_class[1] + by_class[2], rel=1e-5)
    weighted = boundary(*images, foreground_weights=(2.0, 0.0, 0.5))
    assert float(weighted) == pytest.approx(2 * by_class[0] + 0.5 * by_class[2], rel=1e-5)


def test_the_loss_is_almost_independent_of_the_resolution():
    label = np.zeros((1, 32, 32), np.uint8)
    label[:, 8:20, 12:28] = 1
    finer = label.repeat(4, 1).repeat(4, 2)
    logits = np.zeros((1, 32, 32, 2), np.float32)
    value = boundary(logits, label)
    np.testing.assert_allclose(boundary(logits.repeat(4, 1).repeat(4, 2), finer), value, rtol=0.1)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, -1.0, 1.0), (0.0, 0.0, 0.0)])
def test_foreground_weights_out_of_range(images, weights):
    with pytest.raises(ArgumentError, match=r"^foreground_weights = \("):
        boundary(*images, foreground_weights=weights)


def test_flattened_images_are_rejected():
    with pytest.raises(ArgumentError, match=r"^logits.shape = \(5, 3\): boundary needs whole images"):
        boundary(np.zeros((5, 3), np.float32), np.zeros(5, np.uint8))
