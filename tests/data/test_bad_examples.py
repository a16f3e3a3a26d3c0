"""Examples that cannot be read are passed over up to a number, counted once, and named."""

import threading

import numpy as np
import pytest

from flaxseg.data.bad_examples import BadExamples, Skipping
from flaxseg.data.types import IGNORE_LABEL, reduced
from flaxseg.errors import ChangedFile, DataError


class Damaged:
    """Ten examples whose pictures hold their number, some of which cannot be read."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index in self.bad:
            raise DataError(f"{index}.png: is cut off; restore it")
        label = np.full((2, 2), 1, np.uint8)
        return {"image": np.full((2, 2, 3), index, np.uint8), "label": label, "id": str(index)}

    def reduced_to(self, size):
        return Damaged(self.bad)


def test_the_next_readable_example_steps_in():
    said = []
    bad = BadExamples(3, said.append)
    source = Skipping(Damaged({2, 3, 9}), bad, "train")
    for _ in range(2):
        assert [int(source[i]["id"]) for i in range(10)] == [0, 1, 4, 4, 4, 5, 6, 7, 8, 0]
    assert said == [f"skipped ({n} of 3): {i}.png: is cut off; restore it" for n, i in ((1, 2), (2, 3), (3, 9))]
    assert bad.messages == tuple(f"{i}.png: is cut off; restore it" for i in (2, 3, 9))
    assert (source[2]["label"] == 1).all()


def test_in_an_evaluation_nothing_of_what_steps_in_counts():
    source = Skipping(Damaged({4}), BadExamples(1, print), "val", ignored=True)
    assert (source[4]["label"] == IGNORE_LABEL).all()
    assert sum(int((source[i]["label"] != IGNORE_LABEL).sum()) for i in range(10)) == 9 * 4


def test_one_too_many_names_them_all_over_both_splits():
    bad = BadExamples(1, lambda text: None)
    train, val = Skipping(Damaged({2}), bad, "train"), Skipping(Damaged({2}), bad, "val", ignored=True)
    train[2]
    with pytest.raises(
        DataError, match=r"2 examples cannot be read, and data.skip_bad = 1 allows for 1:\n  2.png.*\n  2.png"
    ):
        val[2]


def test_nothing_to_read_at_all():
    with pytest.raises(DataError, match="'train': none of its 10 examples can be read"):
        Skipping(Damaged(set(range(10))), BadExamples(10, lambda text: None), "train")[0]


def test_threads_count_an_example_once_and_a_smaller_reading_counts_on():
    said = []
    source = Skipping(Damaged({0}), BadExamples(1, said.append), "train")
    threads = [threading.Thread(target=lambda: reduced(source, (1, 1))[0]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


def test_a_file_that_changed_is_not_passed_over():
    class Changing(Damaged):
        def __getitem__(self, index):
            raise ChangedFile("0.png: has changed")

    with pytest.raises(ChangedFile):
        Skipping(Changing(set()), BadExamples(5, lambda text: None), "train")[0]
