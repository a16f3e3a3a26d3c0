"""Training batches from datasets: shuffled, repeated, of one canvas size. Element n is the batch of step n."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from flaxseg.data.batching import check_image, check_label, local_batch_size, stack_examples
from flaxseg.data.crops import crop_offsets, cut_canvases, scaled_reader
from flaxseg.data.host_cache import HostCache, WholeImageCache
from flaxseg.data.memory import check_batch_fits
from flaxseg.data.resize import resize_image, resize_label
from flaxseg.data.sampling import ExampleOrder
from flaxseg.data.threads import thread_count
from flaxseg.data.types import Batch, Example, SegmentationDataset
from flaxseg.errors import ArgumentError, DataError, check_choice
from flaxseg.keywords import arguments_checked

if TYPE_CHECKING:
    import grain

CACHES = ("none", "host", "device", "features")
"""What is kept of training examples for later epochs: nothing, the decoded examples in host memory or on the devices,
or a frozen encoder's features of them in host memory."""

RESIZES = ("stretch", "keep")
"""How images of different sizes become batches: resized to one size, or cropped at their own scale."""

_ELSEWHERE = {
    "image_size": "use canvas_size, from which augmentation cuts the images",
    "size": "use canvas_size",
    "shuffle": "leave it out: every epoch is shuffled, by seed",
    "num_workers": "use iterate(batches, num_threads=...)",
    "drop_last": "leave it out: no example is dropped",
    "augment_fn": "leave it out: train_step takes augment_fn",
}
"""What to do about arguments that `train_batches` does not have."""


@arguments_checked(_ELSEWHERE)
def train_batches(
    dataset: SegmentationDataset,
    *,
    canvas_size: tuple[int, int],
    batch_size: int,
    seed: int,
    scale: float | None = None,
    cache: str = "none",
    views: int = 0,
    weights: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> "grain.MapDataset":
    """Returns the endless training batches; element n is a function of `(seed, n)` alone.

    See `train_batches_by_seed` for the batches of several seeds.

    Each epoch is a fresh permutation of the examples. Batches continue across the end of an epoch, so that no example
    is dropped.

    Args:
      dataset: the dataset to draw from.
      canvas_size: height and width of the images in a batch.
      batch_size: the number of examples in a batch over all processes together.
      seed: seed of the shuffling and of the crops, at least 0.
      scale: None resizes every example to `canvas_size`. A number keeps aspect ratios: the sides of every image are
        multiplied by it, and a canvas is cut from the image at a random position; see `crops.cut_canvases`.
      cache: "host" keeps the decoded and resized (not cropped) examples in memory; the batches stay the same. With
        "device" or "features", batches have an `index` only, for a cache that contains the examples.
      views: number of cached views of each example, for "features"; epoch n has view n modulo `views` of each. 0: none.
      weights: float[len(dataset.source)], the sampling weights of `flaxseg.data.sampling.ExampleOrder`; None draws
        every example once per epoch.
      process_index: the index of this process.
      process_count: the number of processes; each reads an equal part of every batch.

    Returns:
      Random access to `{"image": uint8[B, H, W, C], "label": uint8[B, H, W], "index": int32[B]}`, where `index` is the
      index of each example in the dataset and B = batch_size / process_count; with `scale` also `offset` and `extent`,
      from which `flaxseg.augment` continues the random crop; with `views` also `view`, int32[B].

    Raises:
      ArgumentError: an unknown cache, a cache of examples of one size with `scale`, or a batch size that is not a
        multiple of the number of processes, or whose images do not fit into the free memory.
      DataError: an empty dataset, or too little memory for the cache.
    """
    by_seed = train_batches_by_seed(
        dataset,
        canvas_size=canvas_size,
        batch_size=batch_size,
        scale=scale,
        cache=cache,
        views=views,
        weights=weights,
        process_index=process_index,
        process_count=process_count,
    )
    return by_seed(seed)


def train_batches_by_seed(
    dataset: SegmentationDataset,
    *,
    canvas_size: tuple[int, int],
    batch_size: int,
    scale: float | None = None,
    cache: str = "none",
    **order: Any,
) -> "Callable[[int], grain.MapDataset]":
    """Returns a function from a seed to its `train_batches`; all seeds share one cache.

    Args:
      dataset: the dataset to draw from.
      canvas_size: see `train_batches`.
      batch_size: see `train_batches`.
      scale: see `train_batches`.
      cache: see `train_batches`.
      **order: further arguments of `train_indices`, other than `seed` and `with_offsets`.

    Raises:
      ArgumentError: an unknown cache; the function itself raises the other errors of `train_batches`.
    """
    check_choice("cache", cache, CACHES)
    of_one_size = cache in ("device", "features")
    reader = functools.cache(functools.partial(_batch_reader, dataset, canvas_size, scale=scale, cache=cache))

    def batches(seed: int) -> "grain.MapDataset":
        with_offsets = scale is not None
        indices = train_indices(dataset, batch_size=batch_size, seed=seed, with_offsets=with_offsets, **order)
        if not of_one_size:
            count = order.get("process_count", 1)
            check_batch_fits(dataset, canvas_size, batch_size=batch_size, process_count=count)
        elif with_offsets:
            raise ArgumentError("cache", cache, "images that keep their sizes are only cached with 'host'")
        return indices if of_one_size else indices.map(reader())

    return batches


def _batch_reader(
    dataset: SegmentationDataset, canvas_size: tuple[int, int], *, scale: float | None, cache: str
) -> Callable[[dict[str, np.ndarray]], Batch]:
    """Returns a function that adds the examples to a batch of `train_indices`."""
    if scale is not None:
        read = scaled_reader(dataset, scale)
        if cache == "host":
            read = WholeImageCache(len(dataset.source), read)
        return functools.partial(_with_canvases, read=read, size=canvas_size)
    read = canvas_reader(dataset, canvas_size)
    if cache == "host":
        cached = HostCache(len(dataset.source), read)
        return lambda batch: {**batch, **cached.batch(batch["index"])}
    return lambda batch: {**batch, **stack_examples([read(index) for index in batch["index"].tolist()])}


def train_indices(
    dataset: SegmentationDataset,
    *,
    batch_size: int,
    seed: int,
    weights: np.ndarray | None = None,
    process_index: int = 0,
    process_count: int = 1,
    with_offsets: bool = False,
    views: int = 0,
) -> "grain.MapDataset":
    """Returns the indices of the examples of `train_batches`, without reading the examples.

    Args:
      dataset: the dataset to draw from.
      batch_size: the number of examples in a batch over all processes together.
      seed: seed of the shuffling, at least 0.
      weights: float[len(dataset.source)], the sampling weights; None draws every example once per epoch.
      process_index: the index of this process.
      process_count: the number of processes; each gets an equal part of every batch.
      with_offsets: add the random offsets of crops; see `crops.crop_offsets`.
      views: number of views of each example; 0: no views.

    Returns:
      Random access to `{"index": int32[B]}`, and `offset`, float32[B, 2], and `view`, int32[B], if requested.

    Raises:
      ArgumentError: a batch size that is not a multiple of the number of processes.
      DataError: an empty dataset.
    """
    import grain  # It takes long to load.

    local_size = local_batch_size(dataset, batch_size, process_index, process_count)
    order = ExampleOrder(len(dataset.source), seed=seed, weights=weights)
    offset_seed = seed if with_offsets else None
    return grain.MapDataset.source(
        _TrainIndices(
            order, len(dataset.source), batch_size, process_index * local_size, local_size, offset_seed, views
        )
    )


def canvas_reader(dataset: SegmentationDataset, size: tuple[int, int]) -> Callable[[int], Example]:
    """Returns a function that reads the example with an index, resizes it to `size` and checks its label.

    The function raises DataError if the example cannot be read or its label contains values that are not classes.
    """
    source = dataset.source.reduced(size)

    def read(index: int) -> Example:
        example = source[index]
        check_image(example["image"], example["id"])
        image, label = resize_image(example["image"], size), resize_label(example["label"], size)
        check_label(label, dataset.num_classes, example["id"])
        return {"image": image, "label": label, "id": example["id"]}

    return read


def iterate(batches: "grain.MapDataset", *, start: int = 0, num_threads: int, prefetch: int) -> Iterator[Batch]:
    """Yields `batches[start]`, `batches[start + 1]`, ..., prefetched by threads but always in this order.

    A late start costs nothing: no batch before `start` is read. Closing or deleting the iterator ends its threads.

    Args:
      batches: the result of `train_batches` or `evaluation.eval_batches`.
      start: the first step.
      num_threads: the number of threads, each of which reads whole batches; 0 reads in the calling thread on demand,
        -1 uses one thread per core, at most 16.
      prefetch: the number of batches to read ahead; at least one per thread is.

    Raises:
      DataError: an example cannot be read; raised by the `next` that would have returned its batch.
    """
    import grain  # It takes long to load.

    # The threads started here already use all cores, and those of OpenCV would compete with them.
    cv2.setNumThreads(0)
    threads = thread_count(num_threads)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    return _closing(batches[start:].to_iter_dataset(options))


@dataclasses.dataclass(frozen=True)
class _TrainIndices:
    """Random access to the indices of this process's part of each batch; endless.

    The parts of the processes are consecutive slices of the global batch, in the order in which one process would read
    it. Random values drawn per row of a batch, such as its augmentation, then belong to the same example.
    """

    order: ExampleOrder
    count: int
    batch_size: int
    begin: int
    local_size: int
    offset_seed: int | None
    views: int

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        first = step * self.batch_size + self.begin
        positions = range(first, first + self.local_size)
        indices = {"index": self.order[positions.start : positions.stop].astype(np.int32)}
        if self.views:
            indices["view"] = (np.arange(positions.start, positions.stop) // self.count % self.views).astype(np.int32)
        return indices if self.offset_seed is None else {**indices, "offset": crop_offsets(self.offset_seed, positions)}


def _with_canvases(
    batch: dict[str, np.ndarray], *, read: Callable[[int], Example], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    return {**batch, **cut_canvases([read(index) for index in batch["index"].tolist()], batch["offset"], size)}


def _closing(batches: "grain.IterDataset") -> Iterator[Batch]:
    iterator = iter(batches)
    try:
        yield from iterator
    except DataError as error:
        # Raised again, without the notes about its internals that Grain adds to the message.
        raise DataError(str(error)) from error
    finally:
        iterator.close()
