"""The order of the examples is a function of the seed and the position alone, with or without weights."""

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data import Source
from flaxseg.data.sampling import ExampleOrder, class_balanced_weights, read_weights
from flaxseg.errors import DataError


def drawn(order, first, last):
    return order[first:last].tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_every_epoch_draws_an_example_in_proportion_to_its_weight(seed):
    weights = np.array([1.0, 0.0, 3.0, 0.5, 2.5, 1.0])
    order = ExampleOrder(6, seed=seed, weights=weights)
    expected = 6 * weights / weights.sum()
    total = np.zeros(6)
    for epoch in range(200):
        counts = np.bincount(drawn(order, 6 * epoch, 6 * epoch + 6), minlength=6)
        assert (counts >= np.floor(expected)).all() and (counts <= np.ceil(expected)).all()
        total += counts
    np.testing.assert_allclose(total / 200, expected, atol=0.15)
    assert total[1] == 0


def test_equal_weights_draw_each_example_once_per_epoch_in_a_new_order():
    order = ExampleOrder(9, seed=3, weights=np.full(9, 0.7))
    epochs = [tuple(drawn(order, 9 * e, 9 * e + 9)) for e in range(6)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len(set(epochs)) == 6


def test_a_position_does_not_depend_on_what_was_read_before():
    weights = np.arange(1.0, 8.0)
    one, other = (ExampleOrder(7, seed=5, weights=weights) for _ in range(2))
    far = drawn(one, 7_000_000, 7_000_010)
    assert drawn(other, 0, 50) == [one[n : n + 1].item() for n in reversed(range(50))][::-1]
    assert far == [other[n : n + 1].item() for n in range(7_000_000, 7_000_010)]
    assert drawn(ExampleOrder(7, seed=6, weights=weights), 0, 50) != drawn(one, 0, 50)


def test_class_balanced_weights_by_hand():
    # Class 0 occurs in four images, class 1 in two, class 2 in one, class 3 in none; the fifth image is ignored.
    counts = np.array([[9, 0, 0, 0], [5, 4, 0, 0], [1, 0, 8, 0], [3, 6, 0, 0], [0, 0, 0, 0]])
    expected = np.array([1 / 4, 1 / 4 + 1 / 2, 1 / 4 + 1, 1 / 4 + 1 / 2, 0]) / 3
    np.testing.assert_allclose(class_balanced_weights(counts), expected)
    # The weights are a probability distribution: they add up to 1.
    assert class_balanced_weights(counts).sum() == pytest.approx(1)
    with pytest.raises(DataError, match="no image contains a pixel of any class"):
        class_balanced_weights(np.zeros((2, 3), int))


def source(*ids):
    return ListSource({"image": None, "label": None, "id": example_id} for example_id in ids)


def test_weights_are_matched_by_id(tmp_path):
    file = tmp_path / "weights.txt"
    file.write_text("# rare ones more often\nb 2\n\na name with spaces 0.5\nof another split 7\na 0\n")
    assert read_weights(str(file), source("a", "b", "a name with spaces")).tolist() == [0, 2, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\n", r"has no weight for 1 of 2 examples \(b\); write a line `ID WEIGHT`"),
        ("a 1\nb -1\n", r"line 2: 'b -1' is not an id, a space and a number of at least 0"),
        ("a 1\nb\n", "line 2: 'b' is not an id"),
        ("a 1\nb many\n", "line 2: 'b many' is not"),
        ("a 0\nb 0\n", "all weights are 0"),
    ],
)
def test_invalid_weights_are_rejected(tmp_path, text, message):
    file = tmp_path / "weights.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        read_weights(str(file), source("a", "b"))
    assert str(file) in str(raised.value)


def test_a_missing_file_of_weights_is_named():
    with pytest.raises(DataError, match=r"balanced cannot be read.*'uniform', 'class_balanced', or a text file"):
        read_weights("balanced", source("a"))


def test_ids_are_found_without_reading_examples_and_windows_text_files_are_read(tmp_path):
    class Unreadable(Source):
        def __len__(self):
            return 2

        def __getitem__(self, index, /):
            raise DataError("cannot be read")

        def example_id(self, index):
            return "ab"[index]

    file = tmp_path / "weights.txt"
    file.write_bytes(b"\xef\xbb\xbfa\t0\r\nb   3\r\n")
    assert read_weights(str(file), Unreadable()).tolist() == [0, 3]
