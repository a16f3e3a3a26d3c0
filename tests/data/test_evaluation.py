"""Evaluation batches of images that keep their sizes: whole, in the upper left, the same in any number of processes."""

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data.evaluation import eval_batches
from flaxseg.data.types import IGNORE_LABEL, SegmentationDataset
from flaxseg.errors import ArgumentError, DataError

SIZES = ((70, 100), (20, 30), (64, 65), (130, 20), (9, 9))


def dataset(channels=(3, 3, 3, 3, 3)) -> SegmentationDataset:
    examples = []
    for number, (size, depth) in enumerate(zip(SIZES, channels, strict=True)):
        random = np.random.default_rng(number)
        image = random.integers(1, 256, (*size, depth), np.uint8)
        examples.append({"image": image, "label": random.integers(0, 5, size, np.uint8), "id": str(number)})
    return SegmentationDataset(ListSource(examples), 5, tuple("abcde"), ((0, 0, 0),) * 5)


def kept(data=None, **options):
    return eval_batches(
        data or dataset(), **{"image_size": (48, 80), "batch_size": 4, "native": True, "scale": 1.0, **options}
    )


def test_every_image_and_label_is_whole_and_the_rest_is_padding() -> None:
    first, second = kept()
    # Sides are rounded up to 64, 96, 128, 192, ...; the first batch holds a height of 130 and a width of 100.
    assert first["image"].shape == (4, 192, 128, 3) and first["label"].shape == (4, 192, 128)
    # A window of 48x80 has to fit into the second, whose only image is smaller.
    assert second["image"].shape == (4, 64, 80, 3) and second["label"].shape == (4, 64, 64)
    for batch, examples in ((first, dataset().source.examples[:4]), (second, dataset().source.examples[4:])):
        for row, example in enumerate(examples):
            height, width = example["label"].shape
            assert batch["extent"][row].tolist() == batch["size"][row].tolist() == [height, width]
            np.testing.assert_array_equal(batch["image"][row, :height, :width], example["image"])
            np.testing.assert_array_equal(batch["label"][row, :height, :width], example["label"])
            assert np.count_nonzero(batch["image"][row]) == example["image"].size
            assert (batch["label"][row] != IGNORE_LABEL).sum() == example["label"].size
        for row in range(len(examples), 4):
            assert batch["extent"][row].tolist() == batch["size"][row].tolist() == [0, 0]
            assert (batch["image"][row] == 0).all() and (batch["label"][row] == IGNORE_LABEL).all()


def test_scaled_images_have_labels_of_their_own_size() -> None:
    batch = kept(scale=0.5)[0]
    np.testing.assert_array_equal(batch["extent"], [[35, 50], [10, 15], [32, 32], [65, 10]])
    np.testing.assert_array_equal(batch["size"], SIZES[:4])
    assert batch["image"].shape[1:3] == (96, 80) and batch["label"].shape[1:] == (192, 128)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_together_evaluate_what_one_does(processes: int) -> None:
    parts = [kept(process_index=i, process_count=processes) for i in range(processes)]
    for index, whole in enumerate(kept()):
        for key in whole:
            np.testing.assert_array_equal(np.concatenate([part[index][key] for part in parts]), whole[key])


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(ArgumentError, match="native = False: must be True for images that keep their sizes"):
        kept(native=False)
    with pytest.raises(DataError, match=r"1: image is uint8\[1, 1, 1\] where 0 has uint8\[1, 1, 3\]"):
        kept(dataset((3, 1, 3, 3, 3)))[0]
