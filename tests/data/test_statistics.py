"""Facts of a dataset against values worked out by hand, and the pictures that are there twice."""

import dataclasses

import numpy as np
import pytest

from flaxseg.data.masks.palette import default_palette
from flaxseg.data.statistics import class_counts, scan
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError, UnknownValues
from flaxseg.inspection.duplicates import alike, repeated, shared


@dataclasses.dataclass(frozen=True)
class Listed:
    """Examples from a list; an error in it is raised where it is read."""

    examples: list

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        found = self.examples[index]
        if isinstance(found, Exception):
            raise found
        return {"image": found[0], "label": found[1], "id": f"e{index}"}


def dataset(*examples, classes=3):
    names = tuple(f"class {i}" for i in range(classes))
    return SegmentationDataset(Listed(list(examples)), classes, names, default_palette(classes))


def example(label, image=0, channels=3, dtype=np.uint8):
    label = np.array(label, np.uint8)
    return np.broadcast_to(np.asarray(image, dtype), (*label.shape, channels)).copy(), label


def noise(seed, size=(40, 40), label=0):
    image = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return image.repeat(size[0] // 8, 0).repeat(size[1] // 8, 1), np.full(size, label, np.uint8)


@pytest.mark.parametrize("num_threads", [0, 3])
def test_every_fact_of_a_small_set(num_threads):
    facts = scan(
        dataset(
            example([[0, 0, 1, 255]], image=[10, 20, 30]),
            example([[2], [255]], image=[10, 20, 90]),
            example([[255, 255]], image=[40, 20, 30]),
        ),
        num_threads=num_threads,
    )
    assert facts.num_examples == 3 and facts.problems == () and facts.ids == ("e0", "e1", "e2")
    np.testing.assert_array_equal(facts.sizes, [[1, 4], [2, 1], [1, 2]])
    assert facts.orientations.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(facts.counts, [[2, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 2]])
    np.testing.assert_allclose(facts.shares, [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(facts.occurrences, [1, 1, 1])
    assert facts.ignored_share == 0.5 and facts.all_ignored == ["e2"]
    # Over the 8 pixels of all three: a larger picture counts for more.
    np.testing.assert_allclose(facts.mean, [(6 * 10 + 2 * 40) / 8, 20, (6 * 30 + 2 * 90) / 8])
    np.testing.assert_allclose(facts.std, [np.sqrt(6 * 2) / 8 * 30, 0, np.sqrt(6 * 2) / 8 * 60], atol=1e-6)
    assert not facts.wide.any() and facts.value_range == (10, 90)


def test_pictures_of_many_channels_and_of_floats():
    image = np.arange(6, dtype=np.float32)[None, None] * np.float32(25.5)
    facts = scan(dataset(example([[0, 1]], image=image, channels=6, dtype=np.float32)), num_threads=0)
    np.testing.assert_allclose(facts.mean, np.arange(6) * 25.5, rtol=1e-6)
    np.testing.assert_array_equal(facts.channels, [6])
    assert facts.wide.all() and facts.value_range == (0, 127.5)
    assert facts.at_ends == (1 / 6, 0)
    mixed = scan(dataset(example([[0]]), example([[0]], channels=1)), num_threads=0)
    assert mixed.mean is None and mixed.channels.tolist() == [3, 1]


def test_bad_examples_are_recorded_and_the_others_counted():
    unknown = UnknownValues("m: 7", counts={0: 3, 7: 1}, values=(0, 1, 2), ignore_values=())
    other_size = (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8))
    data = dataset(example([[0]]), DataError("cut off"), example([[1]]), unknown, example([[9]]), other_size)
    facts = scan(data, num_threads=2)
    np.testing.assert_array_equal(facts.places, [0, 2])
    np.testing.assert_array_equal(facts.counts, [[1, 0, 0, 0], [0, 1, 0, 0]])
    assert facts.num_examples == 6
    assert [(problem.place, problem.unknown) for problem in facts.problems] == [
        (1, None),
        (3, unknown),
        (4, None),
        (5, None),
    ]
    assert facts.problems[0].message == "cut off"
    assert "e4: the label has values 9" in facts.problems[2].message
    assert "e5: the picture has the shape [2, 2, 3] and the label [2, 3]" in facts.problems[3].message


def test_errors_that_are_no_data_errors_are_not_hidden():
    with pytest.raises(KeyError):
        scan(dataset(KeyError("a mistake in code")), num_threads=1)


def test_an_empty_split_has_no_facts():
    facts = scan(dataset(), num_threads=1)
    assert facts.num_examples == 0 and facts.mean is None and facts.counts.shape == (0, 4)
    np.testing.assert_array_equal(facts.shares, [0, 0, 0])
    assert facts.ignored_share == 0 and facts.all_ignored == []


@pytest.mark.parametrize("num_threads", [0, 2])
def test_class_counts_and_the_first_error(num_threads):
    good = example([[0, 2, 2, 255]]), example([[1, 1, 1, 1]])
    np.testing.assert_array_equal(class_counts(dataset(*good), num_threads=num_threads), [[1, 0, 2, 1], [0, 4, 0, 0]])
    assert class_counts(dataset(), num_threads=num_threads).shape == (0, 4)
    with pytest.raises(DataError, match="first"):
        class_counts(dataset(*good, DataError("first"), DataError("second")), num_threads=num_threads)


def test_equal_pictures_are_found_whatever_their_labels():
    train = scan(dataset(noise(0), noise(1), noise(0, label=2), noise(2), noise(0)), num_threads=0)
    evaluation = scan(dataset(noise(3), noise(0), noise(2)), num_threads=0)
    assert repeated(train) == [["e0", "e2", "e4"]] and repeated(evaluation) == []
    assert shared(train, evaluation) == [("e0", "e1"), ("e3", "e2")]
    # The same bytes in another shape are another picture.
    flat = example([[0, 0, 0, 0]]), example([[0, 0], [0, 0]])
    assert repeated(scan(dataset(*flat), num_threads=0)) == []


def test_pictures_that_look_alike_are_found_without_the_equal_ones():
    image, label = noise(1)
    brighter = (image // 2 + 60, label)
    train = scan(dataset(*(noise(seed) for seed in range(20))), num_threads=0)
    evaluation = scan(
        dataset(noise(4), brighter, noise(7, size=(80, 56)), noise(99), example([[0] * 9])), num_threads=0
    )
    assert alike(train, evaluation) == [("e1", "e1"), ("e7", "e2")]
    assert alike(scan(dataset(), num_threads=0), evaluation) == []
