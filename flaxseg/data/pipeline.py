"""Datasets become batches: shuffle, repeat, resize to a canvas, batch. Element n is the batch of step n."""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import cv2
import grain
import numpy as np

from flaxseg.data.decode.images import resize_image, resize_label
from flaxseg.data.host_cache import CanvasCache
from flaxseg.data.sampling import ExampleOrder
from flaxseg.data.threads import thread_count
from flaxseg.data.types import (
    IGNORE_LABEL,
    Batch,
    Example,
    SegmentationDataset,
    Source,
    check_label,
    reduced,
    stack,
    stacked,
)
from flaxseg.errors import DataError


def train_batches(
    dataset: SegmentationDataset,
    *,
    canvas_size: tuple[int, int],
    batch_size: int,
    seed: int,
    cache: bool = False,
    weights: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """The endless training batches; element n is a function of `(seed, n)` alone.

    Each epoch is a fresh permutation of the examples, and batches run on over its end, so that none is dropped.

    Args:
      dataset: what to draw from.
      canvas_size: height and width that every example is resized to.
      batch_size: examples in a batch of all processes together.
      seed: of the shuffling, 0 or more.
      cache: keep what was decoded and resized in memory; the batches are the same.
      weights: float[len(dataset.source)], how often each example comes; None: each once an epoch. See
        `flaxseg.data.sampling.ExampleOrder`.
      process_index: which process this is.
      process_count: how many there are; each reads its share of each batch.

    Returns:
      Random access to `{"image": uint8[B, H, W, C], "label": uint8[B, H, W], "index": int32[B]}`, the last of each
      example in the dataset; B = batch_size / process_count.

    Raises:
      DataError: an empty dataset, a batch size that the processes cannot share evenly, or too little memory to
        cache.
    """
    indices = train_indices(
        dataset,
        batch_size=batch_size,
        seed=seed,
        weights=weights,
        process_index=process_index,
        process_count=process_count,
    )
    read = canvas_reader(dataset, canvas_size)
    if cache:
        kept = CanvasCache(len(dataset.source), read)
        return indices.map(lambda batch: {**batch, **kept.batch(batch["index"])})
    return indices.map(lambda batch: {**batch, **stack([read(index) for index in batch["index"].tolist()])})


def train_indices(
    dataset: SegmentationDataset,
    *,
    batch_size: int,
    seed: int,
    weights: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """The examples of `train_batches`, not yet read: random access to `{"index": int32[B]}`; arguments as there."""
    share = _share(dataset, batch_size, process_index, process_count)
    order = ExampleOrder(len(dataset.source), seed=seed, weights=weights)
    return grain.MapDataset.source(_TrainIndices(order, batch_size, process_index * share, share))


def canvas_reader(dataset: SegmentationDataset, size: tuple[int, int]) -> Callable[[int], Example]:
    """Returns a function from an index to that example at one height and width, and checked."""
    source = reduced(dataset.source, size)

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
    """The batches of one evaluation: every example once and in order; the last is filled up with ignored ones.

    Args:
      dataset: what to evaluate on.
      image_size: height and width that every picture is resized to.
      batch_size: examples in a batch of all processes together.
      native: keep each label at its own size, in the upper left of an array filled with IGNORE_LABEL. The sides of
        that array are the smallest of `native_side` that hold the batch's largest label, so that few shapes have to
        be compiled. With several processes each then reads whole batches, as all have to agree on the shape.
      process_index: which process this is.
      process_count: how many there are; all get the same number of batches, of the same shapes.

    Returns:
      Random access to `{"image": uint8[B, H, W, C], "label": uint8[B, H', W']}` and with `native` also
      `"size": int32[B, 2]`, height and width of each label (0, 0 for an example that only fills up).

    Raises:
      DataError: an empty dataset, or a batch size that the processes cannot share evenly.
    """
    _share(dataset, batch_size, process_index, process_count)
    return grain.MapDataset.source(
        _EvalBatches(
            reduced(dataset.source, image_size),
            image_size,
            dataset.num_classes,
            batch_size,
            native,
            process_index,
            process_count,
        )
    )


def iterate(batches: grain.MapDataset, *, start: int = 0, num_threads: int, prefetch: int) -> Iterator[Batch]:
    """`batches[start]`, `batches[start + 1]`, ... read ahead by threads, in the same order for any number of them.

    Starting late costs nothing: nothing before `start` is read. Closing or dropping the iterator ends its threads.

    Args:
      batches: from `train_batches` or `eval_batches`.
      start: the first step.
      num_threads: threads that read; each makes whole batches. 0: the caller reads, when it asks; -1: one for each
        core, up to 16.
      prefetch: how many batches are read ahead; at least one for each thread.

    Raises:
      DataError: an example cannot be read; raised by the `next` that would have returned its batch.
    """
    # The threads here are the parallelism: those that cv2 starts of its own would only contend with them.
    cv2.setNumThreads(0)
    threads = thread_count(num_threads)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    return _closing(batches[start:].to_iter_dataset(options))


def native_side(length: int) -> int:
    """The smallest of 64, 96, 128, 192, 256, 384, 512, ... (powers of two and 1.5 times) that is at least `length`."""
    power = 64
    while power < length:
        if length <= power * 3 // 2:
            return power * 3 // 2
        power *= 2
    return power


@dataclasses.dataclass(frozen=True)
class _TrainIndices:
    """Random access to the indices of this process's share of each batch; endless.

    The processes' shares lie in the global batch one after the other, in the order that one process would read: what
    is drawn for each row of a batch, such as its augmentation, is then drawn for the same example.
    """

    order: ExampleOrder
    batch_size: int
    begin: int
    share: int

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        first = step * self.batch_size + self.begin
        return {"index": self.order[first : first + self.share].astype(np.int32)}


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
        share = self.batch_size // self.process_count
        examples = [self._read(i) for i in whole[self.process_index * share : (self.process_index + 1) * share]]
        padding = share - len(examples)
        # A process whose share of the last batch is empty still has to know how many channels to fill in.
        like = examples[0] if examples else self._read(first)
        filler: Example = {"image": np.zeros_like(like["image"]), "label": np.zeros((0, 0), np.uint8), "id": ""}
        examples += [filler] * padding
        labels = np.full((len(examples), *self._label_size(whole, examples)), IGNORE_LABEL, np.uint8)
        for canvas, example in zip(labels, examples, strict=True):
            height, width = example["label"].shape
            canvas[:height, :width] = example["label"]
        batch = {"image": stacked(examples, "image"), "label": labels}
        if self.native:
            batch["size"] = np.array([example["label"].shape for example in examples], np.int32)
        return batch

    def _read(self, index: int) -> Example:
        example = self.source[index]
        label = example["label"] if self.native else resize_label(example["label"], self.image_size)
        check_label(label, self.num_classes, example["id"])
        return {"image": resize_image(example["image"], self.image_size), "label": label, "id": example["id"]}

    def _label_size(self, whole: range, examples: Sequence[Example]) -> tuple[int, int]:
        """Height and width of the batch's label array, the same in every process."""
        if not self.native:
            return self.image_size
        sizes = [example["label"].shape for example in examples]
        if self.process_count > 1:
            sizes = [self.source[i]["label"].shape for i in whole]
        return native_side(max(height for height, _ in sizes)), native_side(max(width for _, width in sizes))


def _share(dataset: SegmentationDataset, batch_size: int, process_index: int, process_count: int) -> int:
    """How many examples of each batch this process reads."""
    if len(dataset.source) == 0:
        raise DataError("the dataset has no examples: check data.dir and the split's name")
    if batch_size < 1 or batch_size % process_count:
        raise DataError(
            f"a batch size of {batch_size} cannot be shared by {process_count} process(es): "
            f"it has to be a multiple of {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise DataError(f"process {process_index} of {process_count}: it has to be in 0..{process_count - 1}")
    return batch_size // process_count


def _closing(batches: grain.IterDataset) -> Iterator[Batch]:
    iterator = iter(batches)
    try:
        yield from iterator
    except DataError as error:
        # Raised anew without the notes on its own workings that grain adds to a message meant for a user.
        raise DataError(str(error)) from error
    finally:
        iterator.close()
