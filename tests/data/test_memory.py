"""A batch that cannot fit into the free memory is refused before anything is allocated."""

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data import SegmentationDataset, memory
from flaxseg.data.evaluation import eval_batches
from flaxseg.data.pipeline import train_batches
from flaxseg.errors import ArgumentError


@pytest.fixture
def dataset():
    image = np.zeros((4, 4, 3), np.float32)
    example = {"image": image, "label": np.zeros((4, 4), np.uint8), "id": "a"}
    return SegmentationDataset(ListSource([example]), 2, ("a", "b"), ((0, 0, 0), (1, 1, 1)))


def make(builder, dataset, batch_size, **options):
    if builder is train_batches:
        return train_batches(dataset, canvas_size=(8, 16), batch_size=batch_size, seed=0, **options)
    return eval_batches(dataset, image_size=(8, 16), batch_size=batch_size, native=True, **options)


@pytest.mark.parametrize("builder", [train_batches, eval_batches])
def test_a_batch_may_fill_the_free_memory_but_not_exceed_it(builder, dataset, monkeypatch):
    of_one_image = 8 * 16 * 3 * 4
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20 * of_one_image)
    make(builder, dataset, 2**20)
    make(builder, dataset, 2**21, process_count=2)
    with pytest.raises(ArgumentError) as raised:
        make(builder, dataset, 2**21)
    assert str(raised.value) == (
        "batch_size = 2097152: the images of one batch, 8x16x3 float32 each, take 3.0 GiB, but 1.5 GiB of host memory "
        "are free; use at most 1,048,576, or smaller images"
    )
    with pytest.raises(ArgumentError, match=r"1,500,000 of them in this process.* use at most 2,097,152"):
        make(builder, dataset, 3_000_000, process_count=2)


def test_images_on_the_device_take_no_host_memory(dataset, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1)
    make(train_batches, dataset, 8, cache="device")
