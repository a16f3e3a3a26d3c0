"""Boundary IoU and F-score by hand, and compared with SciPy's morphology."""

import math
from decimal import Decimal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from flaxseg.metrics import Boundary
from flaxseg.metrics.borders import border_band, border_pixels, class_bits, disk_union, integer_root
from flaxseg.metrics.boundary import band_width, match_radius

CLASSES = 3


@partial(jax.jit, static_argnames="num_classes")
def measure(prediction, label, size=None, num_classes=CLASSES):
    return Boundary.from_model_output(prediction=prediction, label=label, size=size, num_classes=num_classes)


def measured_counts(prediction, label, size=None):
    metric = measure(jnp.asarray(prediction), jnp.asarray(label), None if size is None else jnp.asarray(size))
    return np.asarray(metric.bands), np.asarray(metric.outlines)


def scipy_counts(prediction, label):
    """Returns the counts of one image without ignored pixels, from eroded and dilated masks of each class."""
    diagonal = math.hypot(*label.shape)
    width, radius = max(round(0.02 * diagonal), 1), math.ceil(0.0075 * diagonal)
    grid = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (grid**2).sum(0) <= radius**2
    bands, outlines = [], []
    for index in range(CLASSES):
        masks = label == index, prediction == index
        band = [m & ~ndimage.binary_erosion(m, np.ones((3, 3)), iterations=width) for m in masks]
        bands.append([(band[0] & band[1]).sum(), band[0].sum(), band[1].sum()])
        outline = [m & ~ndimage.binary_erosion(m, border_value=1) for m in masks]
        near = [ndimage.binary_dilation(o, disk) for o in outline]
        outlines.append(
            [(outline[0] & near[1]).sum(), outline[0].sum(), (outline[1] & near[0]).sum(), outline[1].sum()]
        )
    return np.array(bands), np.array(outlines)


def random_maps(seed, shape):
    """Returns smooth random regions, and the same regions slightly perturbed."""
    noise = np.random.default_rng(seed).normal(size=(2, CLASSES, *shape))
    first, second = ndimage.gaussian_filter(noise, (0, 0, 5, 5))
    return first.argmax(0), (first + 0.4 * second).argmax(0)


def test_equals_scipy_on_images_of_several_sizes():
    sizes = [(90, 120), (75, 100), (120, 50), (31, 33)]
    canvas = np.full((2, 4, 120, 120), 255)
    canvas[1] = 1
    expected = [0, 0]
    for index, size in enumerate(sizes):
        label, prediction = random_maps(index, size)
        canvas[:, index, : size[0], : size[1]] = label, prediction
        expected = [a + b for a, b in zip(expected, scipy_counts(prediction, label), strict=True)]
    bands, outlines = measured_counts(canvas[1], canvas[0], sizes)
    np.testing.assert_array_equal(bands, expected[0])
    np.testing.assert_array_equal(outlines, expected[1])
    assert (bands[:, 0] < bands[:, 1]).all()
    assert (outlines[:, 0] < outlines[:, 1]).all()


def test_a_shifted_square_by_hand():
    label, prediction = np.zeros((2, 1, 12, 12), np.int32)
    label[0, 3:9, 3:9] = 1
    prediction[0, 3:9, 5:11] = 1
    bands, outlines = measured_counts(prediction, label)
    # Rings of 20 pixels, shifted by two columns: they share 2 x 4 pixels in rows 3 and 8.
    np.testing.assert_array_equal(bands[1], [8, 20, 20])
    # The radius is 1: in each ring, these 8 pixels and the 4 next to them are matched.
    np.testing.assert_array_equal(outlines[1], [12, 20, 12, 20])
    metric = Boundary(bands, outlines)
    np.testing.assert_allclose(metric.iou()[1:], [8 / 32, np.nan])
    np.testing.assert_allclose(metric.f_score()[1:], [12 / 20, np.nan])


def test_the_image_edge_is_in_the_band_but_not_an_outline():
    blank = np.zeros((1, 12, 12), np.int32)
    bands, outlines = measured_counts(blank, blank)
    np.testing.assert_array_equal(bands[0], [44, 44, 44])
    assert not outlines.any()


def test_ignored_pixels_form_no_boundary():
    label = np.zeros((1, 12, 12), np.int32)
    label[0, 4:8, 4:8] = 1
    label[0, 3:9, 3:9] = np.where(label[0, 3:9, 3:9] == 1, 1, 255)
    for prediction in (np.zeros_like(label), np.where(label == 255, 2, label)):
        bands, outlines = measured_counts(prediction, label)
        assert bands[0, 1] == 44
        assert not bands[1:, 1].any()
        assert not outlines[:, 1].any()


def test_scores_of_classes_without_a_boundary():
    metric = Boundary(np.array([[0, 5, 0], [0, 0, 0]]), np.array([[0, 5, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(metric.iou(), [0, np.nan])
    np.testing.assert_array_equal(metric.f_score(), [0, np.nan])
    assert metric.compute() == {"boundary/miou": 0, "boundary/mean_f_score": 0}
    assert "no outlines" not in metric.table(["a", "b"])


def test_an_outline_that_only_predictions_have_scores_0():
    metric = Boundary(np.array([[8, 9, 9], [0, 0, 4]]), np.array([[6, 8, 6, 12], [0, 0, 0, 4]]))
    # Precision 6 / 12 and recall 6 / 8; the false outline of the other class counts in this precision.
    np.testing.assert_allclose(metric.f_score(), [0.6, 0.0])
    assert metric.compute()["boundary/mean_f_score"] == pytest.approx(0.3)


def test_labels_whose_classes_never_touch_have_no_f_score_and_the_table_says_why():
    label = np.zeros((1, 12, 12), np.int32)
    label[0, :, 4:6], label[0, :, 6:] = 255, 1
    prediction = np.zeros_like(label)
    prediction[0, 8:, :3] = 1
    metric = Boundary(*measured_counts(prediction, label))
    assert metric.outlines[:2, 3].all() and not metric.outlines[:, 1].any()
    assert np.isnan(metric.f_score()).all() and np.isnan(metric.compute()["boundary/mean_f_score"])
    assert "no outlines between classes" in metric.table(["background", "object", "absent"]).splitlines()[-1]
    assert "no outlines" not in Boundary.empty(2).table(["a", "b"])


@pytest.fixture(scope="module")
def sizes():
    # With integer diagonals, for which 2 % is exactly a half-integer, and 0.75 % exactly an integer.
    ties = [(3 * k, 4 * k) for k in range(5, 500, 5)]
    return ties + [tuple(size) for size in np.random.default_rng(0).integers(1, 3000, (500, 2)).tolist()]


def test_band_widths_equal_the_rounded_fraction_of_the_diagonal(sizes):
    squared = jnp.array([h * h + w * w for h, w in sizes])
    expected = [max(round(Decimal("0.02") * Decimal(h * h + w * w).sqrt()), 1) for h, w in sizes]
    np.testing.assert_array_equal(band_width(squared, 100), expected)
    assert expected[24] == 12  # 375 x 500 pixels: 2 % of the diagonal is 12.5


def test_match_radii_equal_the_fraction_of_the_diagonal_rounded_up(sizes):
    squared = jnp.array([h * h + w * w for h, w in sizes])
    expected = [math.ceil(Decimal("0.0075") * Decimal(h * h + w * w).sqrt()) for h, w in sizes]
    np.testing.assert_array_equal(match_radius(squared, 100), expected)


def test_every_radius_covers_a_square_window():
    codes = (
        np.random.default_rng(3).choice([-1, 0, 1, 2], p=[0.05, 0.93, 0.01, 0.01], size=(9, 20, 23)).astype(np.int32)
    )
    found = jax.jit(partial(border_band, max_radius=8))(codes, jnp.arange(9))
    for radius in range(9):
        padded = np.pad(codes[radius], radius, constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
        own = codes[radius][..., None, None]
        np.testing.assert_array_equal(found[radius], ((windows >= 0) & (windows != own) & (own >= 0)).any((2, 3)))
    assert not found[0].any()
    np.testing.assert_array_equal(border_pixels(jnp.asarray(codes), image_edge=False)[1] & ~found[1], False)


@pytest.mark.parametrize(("num_classes", "dtype", "words"), [(3, "uint8", 1), (40, "uint32", 2)])
def test_every_disk_holds_the_classes_of_its_pixels(num_classes, dtype, words):
    codes = np.full((4, 15, 18), -1, np.int32)
    chosen = np.random.default_rng(4).integers(codes.size, size=30)
    codes.flat[chosen] = np.random.default_rng(5).integers(num_classes, size=30)
    bits = class_bits(codes, num_classes)
    assert (bits.dtype, len(bits)) == (dtype, words)
    radii = [0, 1, 4, 5]
    found = np.asarray(jax.jit(partial(disk_union, max_radius=5))(bits, jnp.array(radii)))
    width = 8 * bits.dtype.itemsize
    for index, radius in enumerate(radii):
        grid = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        disk = (grid**2).sum(0) <= radius**2
        for number in range(num_classes):
            expected = ndimage.binary_dilation(codes[index] == number, disk)
            word = found[number // width, index]
            np.testing.assert_array_equal(word >> number % width & 1, expected)


def test_integer_roots():
    values = np.concatenate([np.arange(-3, 2000), np.arange(40, 4000, 7) ** 2, np.arange(40, 4000, 7) ** 2 - 1])
    expected = [-1 if value < 0 else math.isqrt(value) for value in values.tolist()]
    np.testing.assert_array_equal(integer_root(jnp.asarray(values, jnp.int32)), expected)


def test_counts_do_not_depend_on_the_number_of_classes():
    label, prediction = (each[None] for each in random_maps(7, (40, 50)))
    few = dict(zip(("bands", "outlines"), scipy_counts(prediction[0], label[0]), strict=True))
    spread = np.array([1, 33, 38])
    many = measure(spread[prediction], spread[label], num_classes=40)
    for name, expected in few.items():
        found = np.asarray(getattr(many, name))
        np.testing.assert_array_equal(found[spread], expected)
        assert found.sum() == expected.sum() > 0
