"""Bootstrap intervals, by hand and against resamples that are scored one by one."""

import numpy as np
import pytest

from flaxseg import metrics
from flaxseg.metrics import PerImage
from flaxseg.metrics.bootstrap import RESAMPLES, percentile_intervals, sorted_rows


def random_pairs(images, classes, seed=0):
    """Returns the confusion matrix of each image, int64[N, K, K]."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 50, (images, classes, classes)) * rng.integers(0, 2, (images, classes, 1))


def rows_of(pairs):
    return np.stack([np.diagonal(pairs, axis1=1, axis2=2), pairs.sum(2), pairs.sum(1)], axis=-1)


def test_intervals_equal_those_of_resampled_confusion_matrices():
    pairs = random_pairs(images=6, classes=3)
    rows = rows_of(pairs)
    order = [int(np.flatnonzero((rows == row).all((1, 2)))[0]) for row in sorted_rows(rows)]
    scores = {name: [] for name in ("iou", "dice", "precision", "recall", "miou", "mean_dice", "pixel_accuracy")}
    images = []
    for drawn in np.random.default_rng(0).integers(6, size=(RESAMPLES, 6)):
        total = sum(pairs[order[index]] for index in drawn)
        for name in ("iou", "dice", "precision", "recall", "mean_dice", "pixel_accuracy"):
            scores[name].append(getattr(metrics, name)(total))
        scores["miou"].append(metrics.mean_iou(total))
        images.append(np.mean([PerImage((rows,)).image_iou()[order[index]] for index in drawn]))
    found = PerImage((rows,)).intervals()
    for name, values in (scores | {"image_miou": images}).items():
        np.testing.assert_allclose(found[name], np.nanpercentile(values, (2.5, 97.5), axis=0), rtol=1e-12, err_msg=name)
    computed = PerImage((rows,)).compute()
    assert found["miou"].tolist() == [computed[f"per_image/dataset_miou_{end}"] for end in ("low", "high")]
    assert found["image_miou"].tolist() == [computed[f"per_image/miou_{end}"] for end in ("low", "high")]


def test_intervals_do_not_depend_on_the_order_of_the_images():
    rows = rows_of(random_pairs(images=20, classes=4))
    first, second = PerImage((rows,)).intervals(), PerImage((rows[::-1], np.zeros((2, 4, 3), np.int64))).intervals()
    for name, bounds in first.items():
        np.testing.assert_array_equal(bounds, second[name])


def test_resamples_without_a_class_are_excluded_from_its_interval():
    """The first class occurs in one of two images, so that it has one score or none; the third never occurs."""
    rows = np.array([[[3, 4, 3], [6, 6, 7], [0, 0, 0]], [[0, 0, 0], [9, 10, 9], [0, 0, 0]]])
    found = PerImage((rows,)).intervals()
    np.testing.assert_array_equal(found["iou"], [[0.75, 6 / 7, np.nan], [0.75, 0.9, np.nan]])
    np.testing.assert_array_equal(found["precision"], [[1, 6 / 7, np.nan], [1, 1, np.nan]])
    np.testing.assert_array_equal(found["recall"], [[0.75, 0.9, np.nan], [0.75, 1, np.nan]])
    np.testing.assert_array_equal(found["pixel_accuracy"], [0.9, 0.9])


def test_without_images_every_interval_is_undefined():
    found = PerImage.empty(3).intervals()
    assert {name: bounds.shape for name, bounds in found.items()} == {
        name: (2, 3) if name in ("iou", "dice", "precision", "recall") else (2,) for name in found
    }
    assert len(found) == 8 and all(np.isnan(bounds).all() for bounds in found.values())


def test_the_interval_of_a_mean_agrees_with_its_standard_error():
    values = np.random.default_rng(1).integers(0, 100, 400)
    bounds = percentile_intervals(values[:, None], lambda drawn, totals: totals / 400)[:, 0]
    error = values.std() / 20
    assert bounds == pytest.approx(values.mean() + np.array([-1.96, 1.96]) * error, abs=0.2 * error)


def test_the_interval_of_totals_beyond_the_precision_of_float32_is_exact():
    rows = np.full((3, 1), 2**40 + 1)
    assert percentile_intervals(rows, lambda drawn, totals: totals).tolist() == [[3 * 2**40 + 3]] * 2
