"""Cached examples equal those that are read, each is read once, and a cache that does not fit is rejected."""

import threading

import numpy as np
import pytest

from flaxseg.data import host_cache
from flaxseg.data.pipeline import iterate, train_batches
from flaxseg.data.types import Example, SegmentationDataset, Source
from flaxseg.errors import DataError


class Counted(Source):
    """Twelve images of a size that depends on the index; records which were read."""

    def __init__(self, channels: int = 3) -> None:
        self.reads: list[int] = []
        self.channels = channels

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int, /) -> Example:
        self.reads.append(index)
        random = np.random.default_rng(index)
        image = random.integers(0, 256, (20 + index, 24, self.channels), np.uint8)
        return {"image": image, "label": random.integers(0, 5, image.shape[:2], np.uint8), "id": str(index)}


def dataset(source) -> SegmentationDataset:
    return SegmentationDataset(source, 5, tuple("abcde"), ((0, 0, 0),) * 5)


def batches(source, **options):
    return train_batches(dataset(source), canvas_size=(16, 16), batch_size=4, seed=1, **options)


def test_batches_are_the_same_and_each_example_is_read_once():
    plain, cached = Counted(), Counted()
    reading = {"num_threads": 3, "prefetch": 3}
    # With one thread, because two that need the same example both read it.
    actual = iterate(batches(cached, cache="host"), num_threads=1, prefetch=3)
    expected = iterate(batches(plain), **reading)
    for _ in range(12):  # four epochs
        first, second = next(expected), next(actual)
        np.testing.assert_array_equal(first["image"], second["image"])
        np.testing.assert_array_equal(first["label"], second["label"])
    expected.close()
    actual.close()
    assert len(plain.reads) >= 48
    # The first example is read once more, to find the shape.
    assert sorted(cached.reads) == sorted([0, *range(12)])


def test_a_batch_is_a_copy_of_the_cache():
    source = Counted()
    made = batches(source, cache="host")
    before = made[0]["image"].copy()
    made[0]["image"][:] = 0
    np.testing.assert_array_equal(made[0]["image"], before)


def test_threads_that_read_the_same_example_store_the_same():
    def read(index: int) -> Example:
        return {"image": np.full((2, 2, 1), index, np.uint8), "label": np.zeros((2, 2), np.uint8), "id": str(index)}

    kept = host_cache.HostCache(4, read)
    threads = [threading.Thread(target=lambda: kept.batch(np.arange(4))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.batch(np.array([3, 1, 1]))["image"].max((1, 2, 3)).tolist() == [3, 1, 1]


def test_too_little_memory_is_reported_with_both_sizes(monkeypatch):
    empty: Example = {"image": np.zeros((16, 16, 3), np.uint8), "label": np.zeros((16, 16), np.uint8), "id": ""}
    monkeypatch.setattr(host_cache, "available_memory", lambda: 2**20)
    with pytest.raises(
        DataError, match=r"1,200 examples of 16x16x3 in host memory needs 1\.2 MiB, and 1\.0 MiB are available; turn"
    ):
        host_cache.HostCache(1200, lambda _: empty)
    monkeypatch.setattr(host_cache, "available_memory", lambda: 16_000)
    assert batches(Counted(), cache="host")[0]["image"].shape == (4, 16, 16, 3)


def test_available_memory_is_plausible():
    assert 2**20 < host_cache.available_memory() < 2**50


def test_images_with_different_channels_are_named():
    class Mixed(Counted):
        def __getitem__(self, index, /):
            example = super().__getitem__(index)
            return {**example, "image": example["image"][..., : 1 + 2 * (index % 2)]}

    with pytest.raises(DataError, match=r"image is uint8\[16, 16, [13]\] where \d+ has uint8\[16, 16, [13]\]"):
        [batches(Mixed(), cache="host")[step] for step in range(3)]


def whole(index: int) -> Example:
    return {"image": np.full((2, 3, 1), index, np.uint8), "label": np.zeros((2, 3), np.uint8), "id": str(index)}


def test_whole_images_are_counted_once_however_many_threads_read_them(monkeypatch):
    """Five images of 12 bytes fit into 60 of 75 bytes."""
    monkeypatch.setattr(host_cache, "available_memory", lambda: 75)
    barrier, reads = threading.Barrier(3), []

    def read(index):
        reads.append(index)
        if index == 1:
            barrier.wait()
        return whole(index)

    cache = host_cache.WholeImageCache(5, read)
    threads = [threading.Thread(target=cache, args=(1,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cache(index)["image"].max() for index in (4, 3, 2, 1, 0, 4)] == [4, 3, 2, 1, 0, 4]
    assert sorted(reads) == [0, 1, 1, 1, 2, 3, 4]


def test_whole_images_that_fill_the_memory_are_an_error_and_the_cache_stays_usable(monkeypatch):
    monkeypatch.setattr(host_cache, "available_memory", lambda: 75)
    with pytest.raises(DataError, match=r"caching 6 whole images like the first needs 0\.0 MiB, and 0\.0 MiB may"):
        host_cache.WholeImageCache(6, whole)

    def growing(index):
        return whole(index) if index < 2 else {**whole(index), "image": np.zeros((40, 3, 1), np.uint8)}

    cache = host_cache.WholeImageCache(5, growing)
    assert cache(1)["id"] == "1"
    for _ in range(2):
        with pytest.raises(DataError, match="the first 2 cached images fill the host memory"):
            cache(2)
    assert cache(1)["id"] == "1"
