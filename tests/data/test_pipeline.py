"""Batches are a function of the seed and the step, use every example, and do not depend on threads or processes."""

import gc
import itertools
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from flaxseg.data.evaluation import eval_batches
from flaxseg.data.pipeline import iterate, train_batches
from flaxseg.data.types import IGNORE_LABEL, Example, SegmentationDataset, Source, bucket_size
from flaxseg.errors import ArgumentError, DataError


class Numbered(Source):
    """Example i is an image and a label filled with i, of a size that depends on i."""

    def __init__(self, count: int, *, channels: int = 3, broken: Sequence[int] = ()):
        self.count, self.channels, self.broken, self.reads = count, channels, broken, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Example:
        assert 0 <= index < self.count
        self.reads += 1
        if index in self.broken:
            raise DataError(f"number {index} is broken")
        size = (8 + index % 3, 12 + index % 5)
        image = np.full((*size, self.channels), index, np.uint8)
        return {"image": image, "label": np.full(size, index, np.uint8), "id": str(index)}


def numbered(count: int, **options: object) -> SegmentationDataset:
    return with_twenty_classes(Numbered(count, **options))


def with_twenty_classes(source: Numbered) -> SegmentationDataset:
    return SegmentationDataset(source, 20, tuple(f"class {i}" for i in range(20)), ((0, 0, 0),) * 20)


def drawn(batches, steps) -> list[list[int]]:
    """Returns the examples in the batches of `steps`."""
    return [batches[step]["label"][:, 0, 0].tolist() for step in steps]


def test_batches_have_the_canvas_size_and_images_match_labels() -> None:
    batch = train_batches(numbered(7), canvas_size=(16, 20), batch_size=4, seed=0)[3]
    assert set(batch) == {"image", "label", "index"}
    assert batch["image"].shape == (4, 16, 20, 3) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (4, 16, 20) and batch["label"].dtype == np.uint8
    np.testing.assert_array_equal(batch["image"][..., 0], batch["label"])
    np.testing.assert_array_equal(batch["index"], batch["label"][:, 0, 0])


def test_every_epoch_is_a_new_permutation_and_batches_cross_its_end() -> None:
    batches = train_batches(numbered(10), canvas_size=(8, 8), batch_size=4, seed=3)
    order = list(itertools.chain(*drawn(batches, range(15))))
    epochs = [order[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_the_seed_determines_the_order_and_adjacent_seeds_share_no_epoch() -> None:
    def epochs(seed: int) -> list[tuple[int, ...]]:
        batches = train_batches(numbered(8), canvas_size=(8, 8), batch_size=8, seed=seed)
        return [tuple(batch) for batch in drawn(batches, range(6))]

    assert epochs(5) == epochs(5)
    assert not set(epochs(5)) & set(epochs(6))


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_prefetching_from_any_step_gives_the_indexed_batches(threads: int) -> None:
    batches = train_batches(numbered(10), canvas_size=(8, 8), batch_size=3, seed=0)
    iterator = iterate(batches, start=7, num_threads=threads, prefetch=4)
    for step in range(7, 17):
        np.testing.assert_array_equal(next(iterator)["label"], batches[step]["label"])
    iterator.close()


def test_starting_at_a_late_step_reads_nothing_before_it() -> None:
    dataset = numbered(10)
    iterator = iterate(
        train_batches(dataset, canvas_size=(8, 8), batch_size=2, seed=0), start=1_000_000, num_threads=1, prefetch=2
    )
    assert next(iterator)["label"].shape == (2, 8, 8)
    iterator.close()
    assert dataset.source.reads <= 2 * 4


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_together_read_the_batch_of_one_process(processes: int) -> None:
    def batches(**process: int):
        return train_batches(numbered(10), canvas_size=(8, 8), batch_size=8, seed=0, **process)

    per_process = [drawn(batches(process_index=i, process_count=processes), range(5)) for i in range(processes)]
    for step, whole in enumerate(drawn(batches(), range(5))):
        assert all(len(own[step]) == 8 // processes for own in per_process)
        assert list(itertools.chain(*(own[step] for own in per_process))) == list(whole)


@pytest.mark.parametrize("threads", [0, 2])
def test_the_error_of_an_unreadable_example_reaches_the_caller_unchanged(threads: int) -> None:
    batches = train_batches(numbered(4, broken=[2]), canvas_size=(8, 8), batch_size=4, seed=0)
    with pytest.raises(DataError, match="^number 2 is broken$"):
        next(iterate(batches, num_threads=threads, prefetch=2))


@pytest.mark.parametrize("end", ["close", "drop", "error"])
def test_no_thread_survives_its_iterator(end: str) -> None:
    before = threading.active_count()
    broken = [0, 1, 2, 3] if end == "error" else []
    batches = train_batches(numbered(4, broken=broken), canvas_size=(8, 8), batch_size=2, seed=0)
    iterator = iterate(batches, num_threads=3, prefetch=6)
    if end == "error":
        with pytest.raises(DataError):
            next(iterator)
    else:
        next(iterator)
        assert threading.active_count() > before
    if end == "close":
        iterator.close()
    del iterator
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("channels", [1, 7])
def test_channels_are_unchanged(channels: int) -> None:
    batch = train_batches(numbered(3, channels=channels), canvas_size=(5, 6), batch_size=2, seed=0)[0]
    assert batch["image"].shape == (2, 5, 6, channels)


@pytest.mark.parametrize("native", [False, True])
def test_evaluation_reads_every_example_once_in_order_and_pads_with_ignored_pixels(native: bool) -> None:
    batches = eval_batches(numbered(10), image_size=(8, 8), batch_size=4, native=native)
    assert len(batches) == 3
    seen = list(iterate(batches, num_threads=2, prefetch=2))
    assert [batch["image"].shape for batch in seen] == [(4, 8, 8, 3)] * 3
    assert [batch["image"][i, 0, 0, 0] for batch in seen for i in range(4)] == [*range(10), 0, 0]
    labels = np.concatenate([batch["label"].reshape(4, -1) for batch in seen])
    for index in range(10):
        assert set(labels[index]) - {IGNORE_LABEL} == {index}
    assert (labels[10:] == IGNORE_LABEL).all()


def test_evaluation_at_one_size_has_no_size_key_and_ignores_nothing() -> None:
    batch = eval_batches(numbered(4), image_size=(6, 9), batch_size=4, native=False)[0]
    assert set(batch) == {"image", "label"}
    np.testing.assert_array_equal(batch["label"], np.broadcast_to(np.arange(4)[:, None, None], (4, 6, 9)))


def test_native_labels_are_unchanged_in_the_upper_left() -> None:
    batch = eval_batches(numbered(10), image_size=(6, 6), batch_size=4, native=True)[2]
    assert batch["label"].shape == (4, 64, 64)
    assert batch["size"].dtype == np.int32
    np.testing.assert_array_equal(batch["size"], [[10, 15], [8, 16], [0, 0], [0, 0]])
    for i in range(2):
        height, width = batch["size"][i]
        np.testing.assert_array_equal(batch["label"][i, :height, :width], 8 + i)
    assert (batch["label"] != IGNORE_LABEL).sum() == 10 * 15 + 8 * 16


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("count", "processes"), [(10, 2), (9, 4), (8, 4)])
def test_several_processes_together_evaluate_what_one_process_does(native: bool, count: int, processes: int) -> None:
    options = {"image_size": (8, 8), "batch_size": 8, "native": native}
    whole = eval_batches(numbered(count), **options)
    per_process = [
        eval_batches(numbered(count), process_index=i, process_count=processes, **options) for i in range(processes)
    ]
    for index, batch in enumerate(whole):
        parts = [own[index] for own in per_process]
        # Concatenated, the parts are the batch of one process.
        for key in batch:
            assert {part[key].shape for part in parts} == {(8 // processes, *batch[key].shape[1:])}
            together = np.concatenate([part[key] for part in parts])
            filled = (batch["label"] != IGNORE_LABEL).any((1, 2))
            np.testing.assert_array_equal(together[filled], batch[key][filled])
    assert [len(own) for own in per_process] == [len(whole)] * processes


def test_bucket_sizes() -> None:
    lengths = [1, 64, 65, 96, 97, 128, 129, 360, 384, 385, 500, 1025, 2048, 2049]
    expected = [64, 64, 96, 96, 128, 128, 192, 384, 384, 512, 512, 1536, 2048, 3072]
    assert [bucket_size(length) for length in lengths] == expected


def test_invalid_batch_sizes_and_empty_datasets_are_rejected() -> None:
    options = {"canvas_size": (8, 8), "seed": 0}
    with pytest.raises(ArgumentError, match=r"batch_size = 6: must be a positive multiple of 4 process"):
        train_batches(numbered(4), batch_size=6, process_count=4, **options)
    with pytest.raises(ArgumentError, match="batch_size = 0: must be"):
        train_batches(numbered(4), batch_size=0, **options)
    with pytest.raises(ArgumentError, match="process_index = 2: must be an integer from 0 to 1"):
        train_batches(numbered(4), batch_size=2, process_index=2, process_count=2, **options)
    with pytest.raises(DataError, match="no examples"):
        eval_batches(numbered(0), image_size=(8, 8), batch_size=2, native=True)


class Mixed(Numbered):
    """Every other image is gray."""

    def __getitem__(self, index: int, /) -> Example:
        example = super().__getitem__(index)
        return {**example, "image": example["image"][..., : 1 + 2 * (index % 2)]}


def test_images_with_different_channels_are_named() -> None:
    dataset = with_twenty_classes(Mixed(4))
    with pytest.raises(DataError, match=r"1: image is uint8\[8, 8, 3\] where 0 has uint8\[8, 8, 1\]"):
        eval_batches(dataset, image_size=(8, 8), batch_size=4, native=False)[0]


@pytest.mark.parametrize("kind", ["train", "native", "resized"])
def test_a_label_outside_the_classes_is_named(kind: str) -> None:
    dataset = numbered(22)
    if kind == "train":
        batches = train_batches(dataset, canvas_size=(8, 8), batch_size=22, seed=0)
    else:
        batches = eval_batches(dataset, image_size=(8, 8), batch_size=22, native=kind == "native")
    with pytest.raises(DataError, match=r"2[01]: the label has the values 2[01], but .* 20 classes, .*0\.\.19 and 255"):
        list(iterate(batches, num_threads=1, prefetch=1))
