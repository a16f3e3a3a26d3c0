"""Batches for evaluation: every example once, in order, at a common size or at its own size."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flaxseg.data.batching import check_image, check_label, local_batch_size, stack_arrays
from flaxseg.data.crops import check_channels
from flaxseg.data.memory import check_batch_fits
from flaxseg.data.resize import resize_image, resize_label, scaled_size
from flaxseg.data.types import IGNORE_LABEL, Batch, Example, SegmentationDataset, Source, bucket_size
from flaxseg.errors import ArgumentError
from flaxseg.keywords import arguments_checked

if TYPE_CHECKING:
    import grain

_ELSEWHERE = {
    "canvas_size": "use image_size: nothing is cut from images that are evaluated",
    "size": "use image_size",
    "seed": "leave it out: every example comes once, in order",
    "shuffle": "leave it out: every example comes once, in order",
    "num_workers": "use iterate(batches, num_threads=...)",
    "drop_last": "leave it out: no example is dropped",
}
"""What to do about arguments that `eval_batches` does not have."""


@arguments_checked(_ELSEWHERE)
def eval_batches(
    dataset: SegmentationDataset,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    native: bool = True,
    scale: float | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> "grain.MapDataset":
    """Returns the batches of one evaluation: every example once, in order; padding completes the last batch.

    Args:
      dataset: the dataset to evaluate on.
      image_size: the height and width that every image is resized to.
      batch_size: the number of examples in a batch over all processes together.
      native: keep each label at its native size, in the upper left of an array filled with IGNORE_LABEL. The sides of
        that array are rounded up with `bucket_size`, so that few shapes have to be compiled. All processes must agree
        on the shape, so with several of them each reads the labels of the whole batch.
      scale: None resizes every image to `image_size`. A number keeps aspect ratios, and requires `native`: the sides of
        every image are multiplied by it, and images lie in the upper left of an array of zeros. Its sides are rounded
        up like those of the labels, and are at least `image_size`, which is the size of the windows to predict.
      process_index: the index of this process.
      process_count: the number of processes; all get the same number of batches, of the same shapes.

    Returns:
      Random access to `{"image": uint8[B, H, W, C], "label": uint8[B, H', W']}` and with `native` also
      `"size": int32[B, 2]`, the height and width of each label; with `scale` also `"extent": int32[B, 2]`, those of
      each image. Both are 0 for padding examples.

    Raises:
      ArgumentError: `scale` without `native`, or a batch size that is not a multiple of the number of processes,
        or whose images do not fit into the free memory.
      DataError: an empty dataset.
    """
    import grain  # It takes long to load.

    local_batch_size(dataset, batch_size, process_index, process_count)
    check_batch_fits(dataset, image_size, batch_size=batch_size, process_count=process_count)
    if scale is not None and not native:
        raise ArgumentError("native", native, "must be True for images that keep their sizes (`scale`)")
    return grain.MapDataset.source(
        _EvalBatches(
            dataset.source.reduced(image_size) if scale is None else dataset.source,
            image_size,
            dataset.num_classes,
            batch_size,
            native,
            scale,
            process_index,
            process_count,
        )
    )


@dataclasses.dataclass(frozen=True)
class _EvalBatches:
    """Random access to evaluation batches; see `eval_batches`."""

    source: Source
    image_size: tuple[int, int]
    num_classes: int
    batch_size: int
    native: bool
    scale: float | None
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
        # A process with nothing but padding still needs the number of channels.
        like = examples[0]["image"] if examples else self._read(first)["image"]
        empty = (0, 0) if self.scale is not None else self.image_size
        padding: Example = {
            "image": np.zeros((*empty, like.shape[2]), like.dtype), "label": np.zeros((0, 0), np.uint8), "id": ""
        }  # fmt: skip
        examples += [padding] * (local_size - len(examples))
        sizes = self._sizes(whole, examples) if self.native else [self.image_size]
        labels = _in_upper_left(
            [example["label"] for example in examples], _common_size(sizes, self.native), IGNORE_LABEL
        )
        if self.scale is None:
            batch = {"image": stack_arrays(examples, "image"), "label": labels}
        else:
            batch = {"image": self._whole_images(examples, sizes), "label": labels}
            batch["extent"] = np.array([example["image"].shape[:2] for example in examples], np.int32)
        if self.native:
            batch["size"] = np.array([example["label"].shape for example in examples], np.int32)
        return batch

    def _read(self, index: int) -> Example:
        example = self.source[index]
        check_image(example["image"], example["id"])
        label = example["label"] if self.native else resize_label(example["label"], self.image_size)
        check_label(label, self.num_classes, example["id"])
        size = self.image_size if self.scale is None else scaled_size(label.shape, self.scale)
        return {"image": resize_image(example["image"], size), "label": label, "id": example["id"]}

    def _sizes(self, whole: range, examples: Sequence[Example]) -> list[tuple[int, ...]]:
        """Returns the native sizes of all examples of the batch, of which every process reads only its part."""
        if self.process_count > 1:
            return [self.source[i]["label"].shape for i in whole]
        return [example["label"].shape for example in examples]

    def _whole_images(self, examples: Sequence[Example], sizes: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Returns the images in the upper left of a common canvas, which is the same in every process."""
        assert self.scale is not None, "images are resized to one size otherwise"
        check_channels(examples)
        canvas = _common_size([scaled_size(size, self.scale) for size in sizes], rounded=True)
        canvas = (max(canvas[0], self.image_size[0]), max(canvas[1], self.image_size[1]))
        return _in_upper_left([example["image"] for example in examples], canvas, 0)


def _common_size(sizes: Sequence[tuple[int, ...]], rounded: bool) -> tuple[int, int]:
    """Returns the largest height and the largest width, rounded up with `bucket_size` or not."""
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    return (bucket_size(height), bucket_size(width)) if rounded else (height, width)


def _in_upper_left(arrays: Sequence[np.ndarray], size: tuple[int, int], fill: int) -> np.ndarray:
    """Returns arrays [H, W, ...] of different sizes in the upper left of arrays of one size, stacked."""
    stacked = np.full((len(arrays), *size, *arrays[0].shape[2:]), fill, arrays[0].dtype)
    for canvas, array in zip(stacked, arrays, strict=True):
        canvas[: array.shape[0], : array.shape[1]] = array
    return stacked
