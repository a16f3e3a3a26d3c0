"""Scores per image by hand, and bootstrap intervals compared with the standard error."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.metrics import PerImage

ROWS = np.array(
    [
        [[2, 4, 2], [3, 3, 5], [0, 0, 0]],
        [[0, 0, 0], [6, 6, 6], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 2, 0], [4, 4, 8], [0, 2, 0]],
    ]
)
"""Intersection, label and prediction of three classes in four images; the third has no valid pixels."""


def test_counts_by_hand():
    label = jnp.array([[[0, 0, 1], [1, 2, 255]], [[255] * 3] * 2], jnp.uint8)
    prediction = jnp.array([[[0, 1, 1], [1, 0, 0]], [[1] * 3] * 2])
    metric = PerImage.from_model_output(prediction=prediction, label=label, num_classes=3)
    np.testing.assert_array_equal(metric.rows, [[[1, 2, 2], [2, 2, 3], [0, 1, 0]], [[0, 0, 0]] * 3])


def test_scores_by_hand():
    metric = PerImage((ROWS,))
    np.testing.assert_allclose(metric.image_iou(), [(2 / 4 + 3 / 5) / 2, 1, np.nan, (0 + 4 / 8 + 0) / 3])
    np.testing.assert_allclose(metric.image_dice(), [(4 / 6 + 6 / 8) / 2, 1, np.nan, (0 + 8 / 12 + 0) / 3])
    np.testing.assert_allclose(metric.class_iou(), [(2 / 4 + 0) / 2, (3 / 5 + 1 + 4 / 8) / 3, 0])
    np.testing.assert_allclose(metric.class_dice(), [(4 / 6 + 0) / 2, (6 / 8 + 1 + 8 / 12) / 3, 0])
    scores = metric.compute()
    assert scores["per_image/images"] == 3
    assert scores["per_image/miou"] == pytest.approx((0.55 + 1 + 1 / 6) / 3)
    assert scores["per_image/mean_dice"] == pytest.approx((17 / 24 + 1 + 2 / 9) / 3)
    assert scores["per_image/micro_iou"] == pytest.approx((5 / 9 + 1 + 4 / 12) / 3)
    assert scores["per_image/class_miou"] == pytest.approx((0.25 + 0.7 + 0) / 3)
    assert scores["per_image/miou_p50"] == pytest.approx(0.55)
    assert scores["per_image/miou_p75"] == pytest.approx((0.55 + 1) / 2)
    assert scores["per_image/miou_p5"] == pytest.approx(1 / 6 + 0.1 * (0.55 - 1 / 6))


def test_images_keep_the_order_in_which_they_were_merged():
    parts = [PerImage((ROWS[i : i + 1],)) for i in (2, 0, 3, 1)]
    total = PerImage.empty(3)
    for part in parts:
        total = total.merge(part)
    np.testing.assert_array_equal(total.rows, ROWS[[2, 0, 3, 1]])


def test_table_shows_the_number_of_images_of_each_class():
    lines = PerImage((ROWS,)).table(("cat", "dog", "bird")).splitlines()
    assert lines[1].split() == ["cat", "0.2500", "0.3333", "2"]
    assert lines[3].split() == ["bird", "0.0000", "0.0000", "1"]


def test_the_summary_has_every_score_in_words():
    metric = PerImage((ROWS,))
    scores = {name: f"{value:.4f}" for name, value in metric.compute().items()}
    first, second, third, fourth = metric.summary().split("\n  ")
    images = int(float(scores.pop("per_image/images")))
    assert first.startswith(f"means over {images} images: mIoU {scores['per_image/miou']} (95 % interval ")
    assert f"micro IoU {scores['per_image/micro_iou']}, mean" in second
    assert third.endswith(f"{scores['per_image/miou_p75']} (75 %), {scores['per_image/miou_p95']} (95 %)")
    assert fourth.endswith(f": {scores['per_image/dataset_miou_low']} to {scores['per_image/dataset_miou_high']}")
    assert all(value in metric.summary() for value in scores.values())


def test_the_interval_of_the_mean_agrees_with_its_standard_error():
    correct = np.random.default_rng(1).binomial(100, 0.6, size=900)
    rows = np.stack([correct, np.full(900, 100), correct], axis=-1)[:, None]
    scores = PerImage((rows,)).compute()
    mean, error = correct.mean() / 100, correct.std() / 100 / 30
    assert scores["per_image/miou_low"] == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert scores["per_image/miou_high"] == pytest.approx(mean + 1.96 * error, abs=0.3 * error)
    # For one class with labels of equal size, the IoU of the dataset is the mean of the images' IoU.
    assert scores["per_image/dataset_miou_low"] == pytest.approx(scores["per_image/miou_low"], abs=1e-12)
    assert scores["per_image/dataset_miou_high"] == pytest.approx(scores["per_image/miou_high"], abs=1e-12)


def test_the_interval_of_two_images_spans_their_scores():
    rows = np.array([[[1, 4, 1]], [[90, 100, 90]]])
    scores = PerImage((rows,)).compute()
    assert scores["per_image/miou_low"] == scores["per_image/dataset_miou_low"] == 0.25
    assert scores["per_image/miou_high"] == scores["per_image/dataset_miou_high"] == 0.9
    assert scores["per_image/miou"] == pytest.approx(0.575)


def test_the_interval_does_not_depend_on_the_memory_limit(monkeypatch):
    rows = np.random.default_rng(2).integers(1, 9, (50, 2, 1)) + np.array([0, 4, 2])
    expected = PerImage((rows,)).compute()
    monkeypatch.setattr("flaxseg.metrics.bootstrap.MAX_CELLS", 7 * 50)
    assert PerImage((rows,)).compute() == expected
