"""Surface distances by hand, and compared with SciPy's distance transform."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from flaxseg.metrics import SurfaceDistance

CLASSES = 4


@jax.jit
def measure(prediction, label, size):
    return SurfaceDistance.from_model_output(prediction=prediction, label=label, size=size, num_classes=CLASSES)


def distances(prediction, label):
    """Returns the distances from each pixel of either surface to the other, by SciPy, for the masks of one class."""
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (label, prediction)]
    if not all(surface.any() for surface in surfaces):
        return None
    return [ndimage.distance_transform_edt(~surfaces[1 - i])[surfaces[i]] for i in (0, 1)]


def test_equals_scipy_on_images_of_several_sizes():
    rng = np.random.default_rng(0)
    size = np.array([[40, 56], [33, 20], [17, 49], [40, 56]])
    label, prediction = np.full((4, 40, 56), 255), np.ones((4, 40, 56), np.int64)
    hd95, assd = np.full((2, 4, CLASSES), np.nan)
    for index, (height, width) in enumerate(size):
        noise = ndimage.gaussian_filter(rng.normal(size=(2, CLASSES, height, width)), (0, 0, 3, 3))
        # The last class is absent from all labels, and predicted in one image.
        noise[0, -1], noise[1, -1] = -9, -9 if index else noise[1, -1] + 9
        own, other = noise[0].argmax(0), (noise[0] + noise[1]).argmax(0)
        label[index, :height, :width], prediction[index, :height, :width] = own, other
        for k in range(CLASSES):
            if found := distances(other == k, own == k):
                hd95[index, k] = max(np.percentile(direction, 95) for direction in found)
                assd[index, k] = np.concatenate(found).mean()
    metric = measure(prediction, label, size)
    np.testing.assert_allclose(metric.hd95(), hd95, rtol=1e-12)
    np.testing.assert_allclose(metric.assd(), assd, atol=1e-5)
    scores = metric.compute()
    assert scores["surface/pairs"] == np.isfinite(hd95).sum() == 12
    assert scores["surface/undefined"] == 1
    np.testing.assert_allclose(scores["surface/hd95"], np.nanmean(hd95), rtol=1e-12)
    np.testing.assert_allclose(scores["surface/assd"], np.nanmean(assd), atol=1e-5)


def test_two_columns_by_hand():
    label, prediction = np.zeros((2, 4, 40, 56), np.int64)
    label[0, 5:10, 7], prediction[0, 5:10, 11] = 1, 1
    label[1, 3, 3], prediction[1, 6, 7] = 2, 2
    label[2, 3, 3] = 2
    metric = measure(prediction, label, np.array([[40, 56]] * 4))
    assert metric.hd95()[0, 1] == metric.assd()[0, 1] == 4
    assert metric.hd95()[1, 2] == metric.assd()[1, 2] == 5
    assert np.isnan(metric.hd95()[2:, 1:]).all()
    # If a class fills the image, its surface is the image's edge.
    assert metric.hd95()[3, 0] == metric.assd()[3, 0] == 0
    assert metric.compute()["surface/undefined"] == 1
    lines = metric.table(("a", "b", "c", "d")).splitlines()
    assert lines[2].split() == ["b", "4.000", "4.000", "1", "0"]
    assert lines[3].split() == ["c", "5.000", "5.000", "1", "1"]
    assert lines[4].split() == ["d", "nan", "nan", "0", "0"]


def test_ignored_pixels_form_no_surface():
    label = np.zeros((4, 40, 56), np.int64)
    label[:, 10:20, 10:20] = 255
    label[:, 12:18, 12:18] = 1
    metric = measure(np.where(label == 1, 1, 0), label, np.array([[40, 56]] * 4))
    np.testing.assert_array_equal(metric.rows[:, 1:], 0)
    assert metric.rows[0, 0, 0, 0] == 2 * (40 + 56) - 4


def test_many_large_distances_are_summed_exactly():
    label, prediction = np.zeros((2, 4, 40, 56), np.int64)
    label[0, :, :28], prediction[0, :, 28:] = 1, 1
    label[0, :, 55:], prediction[0, :, :1] = 2, 2
    metric = measure(jnp.asarray(prediction), jnp.asarray(label), np.array([[40, 56]] * 4))
    assert metric.hd95()[0, 2] == metric.assd()[0, 2] == 55
