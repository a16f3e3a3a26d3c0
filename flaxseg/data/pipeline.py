"""Batches from datasets: shuffled, repeated, resized to one canvas size. Element n is the batch of step n."""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import cv2
import grain
import numpy as np

from flaxseg.data.batching import check_label, stack_arrays, stack_examples
from flaxseg.data.decode.images import resize_image, resize_label
from flaxseg.data.host_cache import HostCache
from flaxseg.data.sampling import ExampleOrder
from flaxseg.data.threads import thread_count
from flaxseg.data.types import IGNORE_LABEL, Batch, Example, SegmentationDataset, Source
from flaxseg.errors import ArgumentError, DataError, check_choice, check_integer

CACHES = ("none", "host", "device")
"""Where decoded training examples are kept for later epochs."""


def train_batches(
    dataset: SegmentationDataset,
    *,
    canvas_size: tuple[int, int],
    batch_size: int,
    seed: int,
    cache: str = "none",
    weights: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Returns the endless training batches; element n is a function of `(seed, n)` alone.

    Each epoch is a fresh permutation of the examples. Batches continue across the end of an epoch, so that no example
    is dropped.

    Args:
      dataset: the dataset to draw from.
      canvas_size: the height and width that every example is resized to.
      batch_size: the number of examples in a batch over all processes together.
      seed: seed of the shuffling, at least 0.
      cache: "host" keeps the decoded and resized examples in memory; the batches stay the same. With "device", another
        cache holds the examples, and batches have an `index` only.
      weights: float[len(dataset.source)], the sampling weights of `flaxseg.data.sampling.ExampleOrder`; None draws
        every example once per epoch.
      process_index: the index of this process.
      process_count: the number of processes; each reads an equal part of every batch.

    Returns:
      Random access to `{"image": uint8[B, H, W, C], "label": uint8[B, H, W], "index": int32[B]}`, where `index` is the
      index of each example in the dataset and B = batch_size / process_count.

    Raises:
      ArgumentError: an unknown cache, or a batch size that is not a multiple of the number of processes.
      DataError: an empty dataset, or too little memory for the cache.
    """
    check_choice("cache", cache, CACHES)
    indices = train_indices(
        dataset,
        batch_size=batch_size,
        seed=seed,
        weights=weights,
        process_index=process_index,
        process_count=process_count,
    )
    if cache == "device":
        return indices
    read = canvas_reader(dataset, canvas_size)
    if cache == "host":
        cached = HostCache(len(dataset.source), read)
        return indices.map(lambda batch: {**batch, **cached.batch(batch["index"])})
    return indices.map(lambda batch: {**batch, **stack_examples([read(index) for index in batch["index"].tolist()])})


def train_indices(
    dataset: SegmentationDataset,
    *,
    batch_size: int,
    seed: int,
    weights: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Returns the indices of the examples of `train_batches`, without reading the examples.

    Args:
      dataset: the dataset to draw from.
      batch_size: the number of examples in a batch over all processes together.
      seed: seed of the shuffling, at least 0.
      weights: float[len(dataset.source)], the sampling weights; None draws every example once per epoch.
      process_index: the index of this process.
      process_count: the number of processes; each gets an equal part of every batch.

    Returns:
      Random access to `{"index": int32[B]}`.

    Raises:
      ArgumentError: a batch size that is not a multiple of the number of processes.
      DataError: an empty dataset.
    """
    local_size = _local_batch_size(dataset, batch_size, process_index, process_count)
    order = ExampleOrder(len(dataset.source), seed=seed, weights=weights)
    return grain.MapDataset.source(_TrainIndices(order, batch_size, process_index * local_size, local_size))


def canvas_reader(dataset: SegmentationDataset, size: tuple[int, int]) -> Callable[[int], Example]:
    """Returns a function that reads the example with an index, resizes it to `size` and checks its label."""
    source = dataset.source.reduced(size)

    def read(index: int) -> Example:
        example = source[index]
        image, label = resize_image(example["image"], size), resize_label(example["label"], size)
        check_label(label, dataset.num_classes, example["id"])
        return {"image": image, "label": label, "id": example["id"]}

    return read


def eval_batches(
    dataset: SegmentationDataset,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    native: bool,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """Returns the batches of one evaluation: every example once, in order; padding completes the last batch.

    Args:
      dataset: the dataset to evaluate on.
      image_size: the height and width that every image is resized to.
      batch_size: the number of examples in a batch over all processes together.
      native: keep each label at its native size, in the upper left of an array filled with IGNORE_LABEL. The sides of
        that array are rounded up with `bucket_size`, so that few shapes have to be compiled. All processes must agree
        on the shape, so with several of them each reads the labels of the whole batch.
      process_index: the index of this process.
      process_count: the number of processes; all get the same number of batches, of the same shapes.

    Returns:
      Random access to `{"image": uint8[B, H, W, C], "label": uint8[B, H', W']}` and with `native` also
      `"size": int32[B, 2]`, the height and width of each label; 0, 0 for padding.

    Raises:
      ArgumentError: a batch size that is not a multiple of the number of processes.
      DataError: an empty dataset.
    """
    _local_batch_size(dataset, batch_size, process_index, process_count)
    return grain.MapDataset.source(
        _EvalBatches(
            dataset.source.reduced(image_size),
            image_size,
            dataset.num_classes,
            batch_size,
            native,
            process_index,
            process_count,
        )
    )


def iterate(batches: grain.MapDataset, *, start: int = 0, num_threads: int, prefetch: int) -> Iterator[Batch]:
    """Yields `batches[start]`, `batches[start + 1]`, ..., prefetched by threads but always in this order.

    A late start costs nothing: no batch before `start` is read. Closing or deleting the iterator ends its threads.

    Args:
      batches: the result of `train_batches` or `eval_batches`.
      start: the first step.
      num_threads: the number of threads, each of which reads whole batches; 0 reads in the calling thread on demand,
        -1 uses one thread per core, at most 16.
      prefetch: the number of batches to read ahead; at least one per thread is.

    Raises:
      DataError: an example cannot be read; raised by the `next` that would have returned its batch.
    """
    # The threads started here already use all cores; threads of cv2 would only compete with them.
    cv2.setNumThreads(0)
    threads = thread_count(num_threads)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    return _closing(batches[start:].to_iter_dataset(options))


def bucket_size(length: int) -> int:
    """Returns the smallest of 64, 96, 128, 192, 256, 384, ... (powers of two and 1.5 times those) >= `length`."""
    power = 64
    while power < length:
        if length <= power * 3 // 2:
            return power * 3 // 2
        power *= 2
    return power


@dataclasses.dataclass(frozen=True)
class _TrainIndices:
    """Random access to the indices of this process's part of each batch; endless.

    The parts of the processes are consecutive slices of the global batch, in the order in which one process would read
    it. Whatever is drawn per row of a batch, such as its augmentation, is then drawn for the same example.
    """

    order: ExampleOrder
    batch_size: int
    begin: int
    local_size: int

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        first = step * self.batch_size + self.begin
        return {"index": self.order[first : first + self.local_size].astype(np.int32)}


@dataclasses.dataclass(frozen=True)
class _EvalBatches:
    """Random access to evaluation batches; see `eval_batches`."""

    source: Source
    image_size: tuple[int, int]
    num_classes: int
    batch_size: int
    native: bool
    process_index: int
    process_count: int

    def __len__(self) -> int:
        return math.ceil(len(self.source) / self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        first = index * self.batch_size
        whole = range(first, min(first + self.batch_size, len(self.source)))
        local_size = self.batch_size // self.process_count
        begin = self.process_index * local_size
        examples = [self._read(i) for i in whole[begin : begin + local_size]]
        # A process that gets only padding still needs to know the number of channels.
        like = examples[0] if examples else self._read(first)
        padding: Example = {"image": np.zeros_like(like["image"]), "label": np.zeros((0, 0), np.uint8), "id": ""}
        examples += [padding] * (local_size - len(examples))
        labels = np.full((len(examples), *self._label_size(whole, examples)), IGNORE_LABEL, np.uint8)
        for canvas, example in zip(labels, examples, strict=True):
            height, width = example["label"].shape
            canvas[:height, :width] = example["label"]
        batch = {"image": stack_arrays(examples, "image"), "label": labels}
        if self.native:
            batch["size"] = np.array([example["label"].shape for example in examples], np.int32)
        return batch

    def _read(self, index: int) -> Example:
        example = self.source[index]
        label = example["label"] if self.native else resize_label(example["label"], self.image_size)
        check_label(label, self.num_classes, example["id"])
        return {"image": resize_image(example["image"], self.image_size), "label": label, "id": example["id"]}

    def _label_size(self, whole: range, examples: Sequence[Example]) -> tuple[int, int]:
        """Returns the height and width of the batch's label array, which is the same in every process."""
        if not self.native:
            return self.image_size
        sizes = [example["label"].shape for example in examples]
        if self.process_count > 1:
            sizes = [self.source[i]["label"].shape for i in whole]
        return bucket_size(max(height for height, _ in sizes)), bucket_size(max(width for _, width in sizes))


def _local_batch_size(dataset: SegmentationDataset, batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the number of examples of each batch that this process reads."""
    if len(dataset.source) == 0:
        raise DataError("the dataset has no examples; check its folder and the name of the split")
    if batch_size < 1 or batch_size % process_count:
        raise ArgumentError("batch_size", batch_size, f"must be a positive multiple of {process_count} process(es)")
    check_integer("process_index", process_index, 0, process_count - 1)
    return batch_size // process_count


def _closing(batches: grain.IterDataset) -> Iterator[Batch]:
    iterator = iter(batches)
    try:
        yield from iterator
    except DataError as error:
        # Raised again without the notes on its internals that grain adds to a message meant for the user.
        raise DataError(str(error)) from error
    finally:
        iterator.close()
