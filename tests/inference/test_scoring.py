"""Scores as text: what stands below the table of the classes."""

import numpy as np

from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics import ConfusionMatrix, PerImage


def test_classes_without_a_label_are_named_below_the_table():
    counts = np.array([[5, 1, 2], [0, 0, 0], [0, 0, 3]])
    names = ("sky", "cat", "dog")
    note = EvalMetrics(ConfusionMatrix(counts)).table(names).removeprefix(ConfusionMatrix(counts).table(names))
    assert " ".join(note.split()) == (
        "note: 1 of 3 classes occur in no label: cat. If they should occur, `flaxseg inspect` shows how "
        "the masks are read"
    )
    counts[1] = 1
    assert EvalMetrics(ConfusionMatrix(counts)).table(names) == ConfusionMatrix(counts).table(names)


def test_many_classes_without_a_label_are_counted():
    counts, names = np.zeros((13, 13), int), tuple("abcdefghijklm")
    counts[12, 12] = 1
    metrics = EvalMetrics(ConfusionMatrix(counts), {"per_image": PerImage.empty(13)})
    text = " ".join(metrics.table(names).split())
    assert "12 of 13 classes occur in no label: a, b, c, d, e, f, g, h, i, j and 2 more." in text
    assert text.index("in no label") < text.index("per_image: means over 0 images")


def test_the_iou_of_each_class():
    """By hand: 5 of 5 + 1 + 2 pixels, none of 1, 3 of 3 + 2, and a class that occurs nowhere."""
    metrics = EvalMetrics(ConfusionMatrix(np.array([[5, 1, 2, 0], [0, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]])))
    np.testing.assert_array_equal(metrics.class_iou(), [5 / 8, 0, 3 / 5, np.nan])
    np.testing.assert_allclose(np.nanmean(metrics.class_iou()), metrics.compute()["miou"])
    scores = metrics.compute(("sky", "car", "road", "sea"))
    assert [scores[f"iou/{name}"] for name in ("sky", "car", "road")] == [5 / 8, 0, 3 / 5]
    assert np.isnan(scores["iou/sea"]) and scores.keys() - metrics.compute().keys() == {
        "iou/sky", "iou/car", "iou/road", "iou/sea"
    }  # fmt: skip
