"""The confusion matrix and its scores, by hand and by their invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.metrics import ConfusionMatrix, iou, mean_iou, per_class_table, pixel_accuracy, precision, recall

COUNTS = np.array([[5, 1, 0], [2, 7, 0], [0, 0, 0]])


def test_counts_by_hand():
    label = jnp.array([[0, 0, 1], [1, 2, 255]], jnp.uint8)
    prediction = jnp.array([[0, 1, 1], [1, 0, 0]])
    confusion = ConfusionMatrix.from_model_output(prediction=prediction, label=label, num_classes=3)
    np.testing.assert_array_equal(confusion.counts, [[1, 1, 0], [0, 2, 0], [1, 0, 0]])
    assert confusion.counts.dtype == jnp.int32


def test_what_is_no_class_counts_nowhere():
    label = jnp.array([0, -1, -1, 7, 3, 2])
    prediction = jnp.array([5, 1, 2, 0, 0, 2])
    confusion = ConfusionMatrix.from_model_output(prediction=prediction, label=label, num_classes=3)
    np.testing.assert_array_equal(confusion.counts, [[0, 0, 0], [0, 0, 0], [0, 0, 1]])


def test_scores_by_hand():
    np.testing.assert_allclose(iou(COUNTS), [5 / 8, 7 / 10, np.nan])
    np.testing.assert_allclose(recall(COUNTS), [5 / 6, 7 / 9, np.nan])
    np.testing.assert_allclose(precision(COUNTS), [5 / 7, 7 / 8, np.nan])
    assert mean_iou(COUNTS) == pytest.approx((5 / 8 + 7 / 10) / 2)
    assert pixel_accuracy(COUNTS) == pytest.approx(12 / 15)


def test_a_class_predicted_but_never_there_counts_as_zero():
    assert mean_iou(np.array([[4, 1], [0, 0]])) == pytest.approx((4 / 5 + 0) / 2)


def test_no_pixels_at_all():
    empty = ConfusionMatrix.empty(3)
    assert np.isnan(empty.compute()["miou"])
    assert np.isnan(empty.compute()["pixel_accuracy"])


def test_any_split_merges_to_the_whole():
    keys = jax.random.split(jax.random.key(1), 3)
    label = jax.random.randint(keys[0], (8, 16, 16), 0, 5)
    label = jnp.where(jax.random.bernoulli(keys[1], 0.2, label.shape), 255, label)
    prediction = jax.random.randint(keys[2], label.shape, 0, 5)
    whole = ConfusionMatrix.from_model_output(prediction=prediction, label=label, num_classes=5).to_host()
    np.testing.assert_array_equal(
        whole.counts, [[np.sum((label == i) & (prediction == j)) for j in range(5)] for i in range(5)]
    )
    for parts in ((1, 7), (3, 3, 2)):
        total, at = ConfusionMatrix.empty(5), 0
        for size in parts:
            part = {"prediction": prediction[at : at + size], "label": label[at : at + size]}
            total = total.merge(ConfusionMatrix.from_model_output(**part, num_classes=5).to_host())
            at += size
        np.testing.assert_array_equal(total.counts, whole.counts)
        assert total.compute() == whole.compute()


def test_totals_beyond_32_bits_are_exact():
    large = ConfusionMatrix(np.array([[2**31 - 1, 1], [0, 2**31 - 1]], np.int32)).to_host()
    total = large.merge(large).merge(large)
    assert total.counts[0, 0] == 3 * (2**31 - 1)
    assert total.counts.dtype == np.int64
    assert total.compute()["pixel_accuracy"] == (6 * (2**31 - 1)) / (6 * (2**31 - 1) + 3)


def test_table_shows_names_and_means():
    table = per_class_table(COUNTS, ("cat", "dog", "bird"))
    lines = table.splitlines()
    assert lines[0].split() == ["class", "IoU", "precision", "recall", "share"]
    assert lines[1].split() == ["cat", "0.6250", "0.7143", "0.8333", "0.4000"]
    assert lines[3].split() == ["bird", "nan", "nan", "nan", "0.0000"]
    assert lines[4].split() == ["mIoU", "0.6625"]
    assert lines[5].split() == ["pixel", "accuracy", "0.8000"]
