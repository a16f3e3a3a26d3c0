"""Canvases of images that keep their scale: cut at random positions that depend on the seed and the step alone."""

import itertools

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data import host_cache
from flaxseg.data.crops import crop_offsets, cut_canvases
from flaxseg.data.pipeline import iterate, train_batches
from flaxseg.data.types import IGNORE_LABEL, Example, SegmentationDataset
from flaxseg.errors import ArgumentError, DataError

SIZES = ((9, 30), (20, 12), (40, 40), (16, 20), (33, 11), (21, 50), (5, 4))


def coordinates(size: tuple[int, int], number: int) -> Example:
    """Returns an image that holds the row, the column and the number of the image at every pixel."""
    rows, columns = np.indices(size, np.uint8)
    image = np.stack([rows + 1, columns + 1, np.full_like(rows, number)], -1)
    return {"image": image, "label": (rows + columns) % 5, "id": str(number)}


class Counted(ListSource):
    """Records which examples are read."""

    def __getitem__(self, index, /):
        self.reads.append(index)
        return super().__getitem__(index)


def dataset(sizes=SIZES) -> SegmentationDataset:
    source = Counted([coordinates(size, number) for number, size in enumerate(sizes)])
    source.reads = []
    return SegmentationDataset(source, 5, tuple("abcde"), ((0, 0, 0),) * 5)


def kept(data=None, **options):
    return train_batches(
        data or dataset(), **{"canvas_size": (16, 20), "batch_size": 4, "seed": 3, "scale": 1.0, **options}
    )


def assert_equal(first, second) -> None:
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_every_canvas_is_a_part_of_its_image_or_the_whole_image_with_ignored_padding() -> None:
    for step in range(20):
        batch = kept()[step]
        arrays = (batch[key] for key in ("image", "label", "index", "offset", "extent"))
        for image, label, index, offset, extent in zip(*arrays, strict=True):
            size = SIZES[index]
            assert extent.tolist() == [min(size[0], 16), min(size[1], 20)]
            filled = image[..., 0] > 0
            rows, columns = (np.flatnonzero(filled.any(axis)) for axis in (1, 0))
            assert [len(rows), len(columns)] == extent.tolist()
            np.testing.assert_array_equal(filled, np.outer(filled.any(1), filled.any(0)))
            first = image[rows[0], columns[0], :2].astype(int) - 1
            for axis, side in enumerate((16, 20)):
                begin = (rows, columns)[axis][0]
                expected = np.rint(offset[axis] * np.float32(abs(size[axis] - side)))
                assert (first[axis], begin) == ((expected, 0) if size[axis] > side else (0, expected))
            shown = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            part = np.s_[first[0] : first[0] + extent[0], first[1] : first[1] + extent[1]]
            whole = coordinates(size, index)
            np.testing.assert_array_equal(image[shown], whole["image"][part])
            np.testing.assert_array_equal(label[shown], whole["label"][part])
            assert (label[~filled] == IGNORE_LABEL).all() and (image[~filled] == 0).all()


def test_an_image_of_the_canvas_size_is_unchanged_as_if_it_was_resized() -> None:
    data = dataset(((16, 20),) * 5)
    for step in range(4):
        batch = kept(data)[step]
        stretched = train_batches(data, canvas_size=(16, 20), batch_size=4, seed=3)[step]
        assert_equal({key: batch[key] for key in stretched}, stretched)


def test_offsets_are_a_function_of_seed_and_position_and_uniform() -> None:
    offsets = crop_offsets(0, range(2000))
    assert offsets.dtype == np.float32 and offsets.shape == (2000, 2)
    np.testing.assert_array_equal(crop_offsets(0, range(700, 900)), offsets[700:900])
    assert abs(np.corrcoef(crop_offsets(1, range(2000)).ravel(), offsets.ravel())[0, 1]) < 0.08
    assert abs(np.corrcoef(offsets.T)[0, 1]) < 0.08
    for axis in offsets.T:
        assert np.histogram(axis, 8, (0, 1))[0].min() > 190
        assert abs(np.corrcoef(axis[1:], axis[:-1])[0, 1]) < 0.08
    # The values themselves, which a resumed run depends on, in every version.
    np.testing.assert_allclose(crop_offsets(5, range(10**12, 10**12 + 1)), [[0.171042, 0.121224]], rtol=1e-5)


def test_the_same_image_is_cut_elsewhere_in_another_epoch_and_with_another_seed() -> None:
    data = dataset(((60, 60),))
    corners = [
        tuple(kept(data, batch_size=1, seed=seed)[step]["image"][0, 0, 0]) for seed in (0, 1) for step in range(10)
    ]
    assert len(set(corners)) == 20


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_together_cut_the_batch_of_one(processes: int) -> None:
    parts = [kept(batch_size=8, process_index=i, process_count=processes) for i in range(processes)]
    for step in (0, 5):
        together = [part[step] for part in parts]
        whole = kept(batch_size=8)[step]
        assert_equal({key: np.concatenate([part[key] for part in together]) for key in whole}, whole)


@pytest.mark.parametrize(("threads", "cache"), [(0, "host"), (3, "none"), (3, "host")])
def test_threads_and_the_cache_in_host_memory_change_no_batch(threads: int, cache: str) -> None:
    batches = iterate(kept(cache=cache, scale=0.7), start=2, num_threads=threads, prefetch=3)
    for step in range(2, 9):
        assert_equal(next(batches), kept(scale=0.7)[step])
    batches.close()


def test_scale_multiplies_the_sides_of_the_image() -> None:
    data = dataset(((40, 60),))
    batch = kept(data, batch_size=1, scale=0.5, canvas_size=(32, 32))[0]
    assert batch["extent"].tolist() == [[20, 30]]
    assert (batch["label"] != IGNORE_LABEL).sum() == 600
    assert kept(data, batch_size=1, scale=1.2, canvas_size=(99, 99))[0]["extent"].tolist() == [[48, 72]]


def test_each_example_is_read_once_with_a_cache_in_host_memory() -> None:
    data = dataset()
    batches = kept(data, cache="host")
    for step in range(14):
        batches[step]
    assert sorted(data.source.reads) == list(range(len(SIZES)))


def test_a_cache_that_does_not_fit_is_rejected_at_once_or_when_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_cache, "available_memory", lambda: 5000)
    with pytest.raises(
        DataError, match=r"caching 7 whole images like the first needs 0\.0 MiB, and 0\.0 MiB may be used"
    ):
        kept(cache="host")
    monkeypatch.setattr(host_cache, "available_memory", lambda: 10_000)
    with pytest.raises(DataError, match=r"cached images fill the host memory, .*; turn the cache off"):
        list(itertools.islice(kept(cache="host"), 10))


def test_a_cache_on_the_device_and_mixed_channels_are_rejected() -> None:
    with pytest.raises(ArgumentError, match="cache = 'device': images that keep their sizes"):
        kept(cache="device")
    gray = coordinates((8, 8), 1)
    gray["image"] = gray["image"][..., :1]
    with pytest.raises(DataError, match=r"1: image is uint8\[1, 1, 1\] where 0 has uint8\[1, 1, 3\]"):
        cut_canvases([coordinates((8, 9), 0), gray], np.zeros((2, 2), np.float32), (4, 4))
