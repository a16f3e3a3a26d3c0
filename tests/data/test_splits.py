"""Splits of a dataset: training sets of one class, which show that masks are read wrongly."""

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data.masks.class_values import values_beside_255
from flaxseg.data.splits import check_several_classes
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError


def dataset(*labels):
    """Returns a dataset of two classes whose labels have one row; None stands for an example that cannot be read."""
    examples = [
        DataError("broken") if label is None else {"label": np.array([label], np.uint8), "id": "e"} for label in labels
    ]
    return SegmentationDataset(ListSource(examples), 2, ("0", "128"), ((0, 0, 0), (1, 1, 1)))


def test_one_class_beside_ignored_pixels_is_an_error():
    with pytest.raises(DataError) as caught:
        check_several_classes(dataset([0, 0, 255], None, [0, 0, 0]), values=(0, 128))
    assert str(caught.value) == (
        "only the class 0 occurs in the masks to train on, and 16.7% of their pixels are ignored, so there is nothing "
        "to distinguish: 255 is ignored unless it is the value of a class. `flaxseg inspect`, with the same arguments, "
        "shows how the masks are read"
    )
    assert caught.value.options == {"values": (0, 255)}
    with pytest.raises(DataError, match="nothing to distinguish. `flaxseg inspect`") as caught:
        check_several_classes(dataset([1, 255]))
    assert caught.value.options == {}


def test_other_labels_are_no_error():
    for labels in ([[0, 1, 255]], [[0, 0]], [[255, 255]], [None], [], [[0, 255], [1, 255]]):
        check_several_classes(dataset(*labels))


@pytest.mark.parametrize("num_threads", [0, 2])
def test_all_labels_are_read_only_where_a_few_have_one_class(num_threads):
    # Of 80 labels, every tenth is read first.
    labels = [[0, 255]] * 80
    with pytest.raises(DataError, match="50.0% of their pixels are ignored"):
        check_several_classes(dataset(*labels), num_threads=num_threads)
    labels[71] = [1, 1]
    check_several_classes(dataset(*labels), num_threads=num_threads)
    labels[70], labels[71] = [1, 1], [0, 0]
    check_several_classes(dataset(*labels), num_threads=num_threads)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({}, (0, 1)),
        ({"values": (0, (1, 7)), "ignore_values": (9,)}, (0, (1, 7))),
        ({"values": (0, 255)}, ()),
        ({"ignore_values": (255,)}, ()),
        ({"reduce_zero_label": True}, ()),
        ({"colors": ((0, 0, 0), (1, 1, 1))}, ()),
    ],
)
def test_255_may_be_another_class_unless_the_options_name_it(options, values):
    assert values_beside_255(options, 2) == values
