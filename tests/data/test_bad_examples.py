"""A bounded number of unreadable examples is skipped; each is counted once and reported."""

import threading

import numpy as np
import pytest

from flaxseg.data.bad_examples import BadExamples, SkippingSource
from flaxseg.data.types import IGNORE_LABEL, Source
from flaxseg.errors import ChangedFile, DataError


class Damaged(Source):
    """Ten examples whose images hold their index, some of which cannot be read."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 10

    def __getitem__(self, index, /):
        if index in self.bad:
            raise DataError(f"{index}.png: is cut off; restore it")
        label = np.full((2, 2), 1, np.uint8)
        return {"image": np.full((2, 2, 3), index, np.uint8), "label": label, "id": str(index)}

    def reduced(self, size):
        return Damaged(self.bad)


def test_the_next_readable_example_replaces_an_unreadable_one():
    said = []
    bad = BadExamples(3, said.append)
    source = SkippingSource(Damaged({2, 3, 9}), bad, "train")
    for _ in range(2):
        assert [int(source[i]["id"]) for i in range(10)] == [0, 1, 4, 4, 4, 5, 6, 7, 8, 0]
    assert said == [f"skipped ({n} of 3): {i}.png: is cut off; restore it" for n, i in ((1, 2), (2, 3), (3, 9))]
    assert bad.messages == tuple(f"{i}.png: is cut off; restore it" for i in (2, 3, 9))
    assert (source[2]["label"] == 1).all()


def test_an_evaluation_ignores_every_pixel_of_a_replacement():
    source = SkippingSource(Damaged({4}), BadExamples(1, print), "val", ignored=True)
    assert (source[4]["label"] == IGNORE_LABEL).all()
    assert sum(int((source[i]["label"] != IGNORE_LABEL).sum()) for i in range(10)) == 9 * 4


def test_one_too_many_lists_those_of_both_splits():
    bad = BadExamples(1, lambda text: None)
    train, val = SkippingSource(Damaged({2}), bad, "train"), SkippingSource(Damaged({2}), bad, "val", ignored=True)
    train[2]
    with pytest.raises(DataError, match=r"2 examples cannot be read, and skip_bad = 1 allows 1:\n  2.png.*\n  2.png"):
        val[2]
    with pytest.raises(DataError, match=r"^2.png: is cut off; restore it\n`flaxseg inspect`, with the same arguments"):
        SkippingSource(Damaged({2}), BadExamples(0, lambda text: None), "train")[2]


def test_a_split_without_readable_examples_is_an_error():
    with pytest.raises(DataError, match="'train': none of its 10 examples can be read"):
        SkippingSource(Damaged(set(range(10))), BadExamples(10, lambda text: None), "train")[0]


def test_an_example_is_counted_once_across_threads_and_reduced_sources():
    said = []
    source = SkippingSource(Damaged({0}), BadExamples(1, said.append), "train")
    threads = [threading.Thread(target=lambda: source.reduced((1, 1))[0]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


def test_a_changed_file_is_not_skipped():
    class Changing(Damaged):
        def __getitem__(self, index, /):
            raise ChangedFile("0.png: has changed")

    with pytest.raises(ChangedFile):
        SkippingSource(Changing(set()), BadExamples(5, lambda text: None), "train")[0]
