"""Splits of a dataset: what a few of their labels say about how the masks are read."""

import numpy as np
from list_source import ListSource

from flaxseg.data.splits import lone_class
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError


def dataset(*labels):
    """Returns a dataset of two classes whose labels have one row; None stands for an example that cannot be read."""
    examples = [
        DataError("broken") if label is None else {"label": np.array([label], np.uint8), "id": "e"} for label in labels
    ]
    return SegmentationDataset(ListSource(examples), 2, ("0", "128"), ((0, 0, 0), (1, 1, 1)))


def test_one_class_beside_ignored_pixels_is_a_warning():
    warning = lone_class(dataset([0, 0, 255], None, [0, 0, 0]))
    assert warning.startswith("in the 2 labels looked at, only the class 0 occurs, and 16.7% of the pixels are ignored")
    assert "`flaxseg inspect`" in warning


def test_other_labels_are_no_warning():
    for labels in ([[0, 1, 255]], [[0, 0]], [[255, 255]], [None], [], [[0, 255], [1, 255]]):
        assert lone_class(dataset(*labels)) == ""


def test_labels_spread_over_the_dataset_are_read():
    # Of 80 labels, every tenth is read.
    labels = [[0, 255]] * 80
    assert "in the 8 labels looked at" in lone_class(dataset(*labels))
    labels[70] = [1, 1]
    assert lone_class(dataset(*labels)) == ""
    labels[70], labels[71] = [0, 0], [1, 1]
    assert lone_class(dataset(*labels)) != ""
