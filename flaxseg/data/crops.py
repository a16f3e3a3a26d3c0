"""Cuts canvases from images at their own scale: a random part of a large image, or a small image with padding."""

from collections.abc import Callable, Sequence

import numpy as np

from flaxseg.data.batching import check_image, check_label, check_same_format
from flaxseg.data.resize import resize_image, resize_label, scaled_size
from flaxseg.data.types import IGNORE_LABEL, Batch, Example, SegmentationDataset

_OFFSET_STREAM = np.uint64(2**64 - 1)
"""The second word of the random key of the offsets; that of the order is the number of an epoch."""


def scaled_reader(dataset: SegmentationDataset, scale: float) -> Callable[[int], Example]:
    """Returns a function that reads the example with an index, multiplies its sides by `scale` and checks its label.

    The function raises DataError if the example cannot be read or its label contains values that are not classes.
    """

    def read(index: int) -> Example:
        example = dataset.source[index]
        check_image(example["image"], example["id"])
        size = scaled_size(example["label"].shape, scale)
        image, label = resize_image(example["image"], size), resize_label(example["label"], size)
        check_label(label, dataset.num_classes, example["id"])
        return {"image": image, "label": label, "id": example["id"]}

    return read


def crop_offsets(seed: int, positions: range) -> np.ndarray:
    """Returns a random offset, uniform in 0..1 along each axis, for each position in the order of the examples.

    Args:
      seed: seed of the run, at least 0.
      positions: the positions; an offset depends on the seed and its position alone.

    Returns:
      float32[len(positions), 2].
    """
    key = np.array([seed, _OFFSET_STREAM], np.uint64)
    # One block of this generator, whose raw output is the same in every version of NumPy, has four numbers.
    raw = np.random.Philox(key=key, counter=positions.start).random_raw(4 * len(positions)).reshape(-1, 4)
    return (raw[:, :2] / 2.0**64).astype(np.float32)


def cut_canvases(examples: Sequence[Example], offsets: np.ndarray, size: tuple[int, int]) -> Batch:
    """Returns the part of each example that lies in its canvas, as one batch.

    Along an axis where the image is larger than the canvas, the canvas begins at `offset * (image - canvas)`; where it
    is smaller, the image begins at `offset * (canvas - image)`, and the rest is black and ignored.

    Args:
      examples: images of any sizes, with the same dtype and number of channels.
      offsets: float32[B, 2] in 0..1.
      size: height and width of the canvas.

    Returns:
      `image` [B, *size, C]; `label` uint8[B, *size]; `offset`, the offsets; and `extent`, int32[B, 2], the height and
      width of the part of the canvas that the image covers.

    Raises:
      DataError: the images differ in dtype or number of channels.
    """
    check_channels(examples)
    like = examples[0]["image"]
    images = np.zeros((len(examples), *size, like.shape[2]), like.dtype)
    labels = np.full((len(examples), *size), IGNORE_LABEL, np.uint8)
    extents = np.zeros((len(examples), 2), np.int32)
    for row, (example, offset) in enumerate(zip(examples, offsets, strict=True)):
        shape = example["label"].shape
        axes = [_overlap(old, new, begin) for old, new, begin in zip(shape, size, offset, strict=True)]
        (source_rows, rows), (source_columns, columns) = axes
        images[row, rows, columns] = example["image"][source_rows, source_columns]
        labels[row, rows, columns] = example["label"][source_rows, source_columns]
        extents[row] = np.minimum(shape, size)
    return {"image": images, "label": labels, "offset": offsets, "extent": extents}


def check_channels(examples: Sequence[Example]) -> None:
    """Checks that the images of examples have one dtype and number of channels.

    Raises:
      DataError: they do not; the message names two examples.
    """
    pixels: list[Example] = [
        {**example, "image": np.zeros((1, 1, example["image"].shape[2]), example["image"].dtype)}
        for example in examples
    ]
    for pixel in pixels:
        check_same_format(pixels[0], pixel, "image")


def _overlap(image: int, canvas: int, offset: np.float32) -> tuple[slice, slice]:
    """Returns the slices of the image and of the canvas that overlap along one axis."""
    # In float32, like the computation of this position on the device.
    begin = int(np.rint(offset * np.float32(abs(image - canvas))))
    length = min(image, canvas)
    inner, whole = slice(begin, begin + length), slice(0, length)
    return (inner, whole) if image > canvas else (whole, inner)
