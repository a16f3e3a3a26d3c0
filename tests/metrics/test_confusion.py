"""The confusion matrix and its scores: by hand, compared with exact fractions, and their invariants."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.metrics import (
    ConfusionMatrix,
    dice,
    iou,
    mean_iou,
    per_class_table,
    pixel_accuracy,
    precision,
    recall,
)

COUNTS = np.array([[5, 1, 0], [2, 7, 0], [0, 0, 0]])


def test_counts_by_hand():
    label = jnp.array([[0, 0, 1], [1, 2, 255]], jnp.uint8)
    prediction = jnp.array([[0, 1, 1], [1, 0, 0]])
    confusion = ConfusionMatrix.from_model_output(prediction=prediction, label=label, num_classes=3)
    np.testing.assert_array_equal(confusion.counts, [[1, 1, 0], [0, 2, 0], [1, 0, 0]])
    assert confusion.counts.dtype == jnp.int32


def test_pixels_without_a_class_are_excluded():
    label = jnp.array([0, -1, -1, 7, 3, 2])
    prediction = jnp.array([5, 1, 2, 0, 0, 2])
    confusion = ConfusionMatrix.from_model_output(prediction=prediction, label=label, num_classes=3)
    np.testing.assert_array_equal(confusion.counts, [[0, 0, 0], [0, 0, 0], [0, 0, 1]])


def test_scores_by_hand():
    np.testing.assert_allclose(iou(COUNTS), [5 / 8, 7 / 10, np.nan])
    np.testing.assert_allclose(dice(COUNTS), [10 / 13, 14 / 17, np.nan])
    np.testing.assert_allclose(recall(COUNTS), [5 / 6, 7 / 9, np.nan])
    np.testing.assert_allclose(precision(COUNTS), [5 / 7, 7 / 8, np.nan])
    assert mean_iou(COUNTS) == pytest.approx((5 / 8 + 7 / 10) / 2)
    assert pixel_accuracy(COUNTS) == pytest.approx(12 / 15)


def test_averages_by_hand():
    scores = ConfusionMatrix(COUNTS).compute()
    assert scores["fwiou"] == pytest.approx((6 * 5 / 8 + 9 * 7 / 10) / 15)
    assert scores["micro_iou"] == pytest.approx(12 / 18)
    assert scores["mean_dice"] == pytest.approx((10 / 13 + 14 / 17) / 2)
    assert scores["weighted_dice"] == pytest.approx((6 * 10 / 13 + 9 * 14 / 17) / 15)
    assert scores["mean_precision"] == pytest.approx((5 / 7 + 7 / 8) / 2)
    assert scores["weighted_precision"] == pytest.approx((6 * 5 / 7 + 9 * 7 / 8) / 15)
    assert scores["mean_recall"] == pytest.approx((5 / 6 + 7 / 9) / 2)
    chance = (6 * 7 + 9 * 8) / 15**2
    assert scores["kappa"] == pytest.approx((12 / 15 - chance) / (1 - chance))


def test_a_class_that_is_never_predicted_is_excluded_from_precision():
    scores = ConfusionMatrix(np.array([[4, 0], [2, 0]])).compute()
    assert scores["mean_precision"] == scores["weighted_precision"] == pytest.approx(4 / 6)
    assert scores["mean_recall"] == pytest.approx(1 / 2)
    assert scores["mean_dice"] == pytest.approx((8 / 10 + 0) / 2)


def test_kappa_of_a_single_class_is_undefined():
    assert np.isnan(ConfusionMatrix(np.array([[4, 0], [0, 0]])).compute()["kappa"])


def test_a_class_that_is_only_predicted_has_an_iou_of_zero():
    assert mean_iou(np.array([[4, 1], [0, 0]])) == pytest.approx((4 / 5 + 0) / 2)


def test_scores_without_pixels_are_undefined():
    empty = ConfusionMatrix.empty(3)
    assert all(np.isnan(score) for score in empty.compute().values())


def test_counts_equal_the_sizes_of_mask_intersections():
    keys = jax.random.split(jax.random.key(1), 3)
    label = jax.random.randint(keys[0], (8, 16, 16), 0, 5)
    label = jnp.where(jax.random.bernoulli(keys[1], 0.2, label.shape), 255, label)
    prediction = jax.random.randint(keys[2], label.shape, 0, 5)
    counts = ConfusionMatrix.from_model_output(prediction=prediction, label=label, num_classes=5).counts
    label, prediction = np.asarray(label), np.asarray(prediction)
    expected = [[np.sum((label == i) & (prediction == j)) for j in range(5)] for i in range(5)]
    np.testing.assert_array_equal(counts, expected)


def test_totals_beyond_32_bits_are_exact():
    large = ConfusionMatrix(np.array([[2**31 - 1, 1], [0, 2**31 - 1]], np.int32)).to_host()
    total = large.merge(large).merge(large)
    assert total.counts[0, 0] == 3 * (2**31 - 1)
    assert total.counts.dtype == np.int64
    assert total.compute()["pixel_accuracy"] == (6 * (2**31 - 1)) / (6 * (2**31 - 1) + 3)


def test_scores_of_a_large_dataset_equal_exact_fractions():
    batch = np.array([[2**31 - 1, 12345, 7], [2**30 + 1, 2**31 - 3, 1], [0, 99999, 2**31 - 5]], np.int32)
    total = ConfusionMatrix.empty(3)
    for _ in range(10):
        total = total.merge(ConfusionMatrix(batch).to_host())
    n = [[10 * int(value) for value in row] for row in batch]
    true, predicted = [sum(row) for row in n], [sum(row[k] for row in n) for k in range(3)]
    pixels, correct = sum(true), [n[k][k] for k in range(3)]
    assert pixels > 10**10
    overlap = [Fraction(correct[k], true[k] + predicted[k] - correct[k]) for k in range(3)]
    f1 = [Fraction(2 * correct[k], true[k] + predicted[k]) for k in range(3)]
    precisions = [Fraction(correct[k], predicted[k]) for k in range(3)]
    fractions = [Fraction(t, pixels) for t in true]
    agreement = Fraction(sum(correct), pixels)
    chance = sum(Fraction(predicted[k], pixels) * fractions[k] for k in range(3))
    exact = {
        "miou": sum(overlap) / 3,
        "fwiou": sum(a * b for a, b in zip(overlap, fractions, strict=True)),
        "micro_iou": Fraction(sum(correct), 2 * pixels - sum(correct)),
        "mean_dice": sum(f1) / 3,
        "weighted_dice": sum(a * b for a, b in zip(f1, fractions, strict=True)),
        "mean_precision": sum(precisions) / 3,
        "weighted_precision": sum(a * b for a, b in zip(precisions, fractions, strict=True)),
        "mean_recall": sum(Fraction(correct[k], true[k]) for k in range(3)) / 3,
        "pixel_accuracy": agreement,
        "kappa": (agreement - chance) / (1 - chance),
    }
    scores = total.compute()
    assert scores.keys() == exact.keys()
    for name, value in exact.items():
        assert abs(Fraction(scores[name]) - value) <= Fraction(4, 10**16) * value, name


def test_table_of_class_names_and_means():
    table = per_class_table(COUNTS, ("cat", "dog", "bird"))
    lines = table.splitlines()
    assert lines[0].split() == ["class", "IoU", "Dice", "precision", "recall", "pixels"]
    assert lines[1].split() == ["cat", "0.6250", "0.7692", "0.7143", "0.8333", "0.4000"]
    assert lines[3].split() == ["bird", "nan", "nan", "nan", "nan", "0.0000"]
    assert lines[4].split() == ["mIoU", "0.6625"]
    assert lines[5].split() == ["mean", "Dice", "0.7964"]
    assert lines[6].split() == ["pixel", "accuracy", "0.8000"]
    assert ConfusionMatrix(COUNTS).table(("cat", "dog", "bird")) == table
