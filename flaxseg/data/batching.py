"""Stacks examples into a batch, and checks that they fit together."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from flaxseg.data.decode.intensities import check_finite
from flaxseg.data.types import IGNORE_LABEL, Batch, Example, SegmentationDataset
from flaxseg.errors import ArgumentError, DataError, check_integer

_DTYPES = {"image": (np.dtype(np.uint8), np.dtype(np.float32)), "label": (np.dtype(np.uint8),)}


def stack_examples(examples: Sequence[Example]) -> Batch:
    """Returns the examples as one batch of `image` and `label`.

    Args:
      examples: at least one example; all have the same shapes and dtypes.

    Raises:
      DataError: the examples differ in shape or dtype.
    """
    return {"image": stack_arrays(examples, "image"), "label": stack_arrays(examples, "label")}


def stack_arrays(examples: Sequence[Example], key: Literal["image", "label"]) -> np.ndarray:
    """Returns the images, [B, H, W, C], or the labels, [B, H, W], of the examples as one array.

    Raises:
      DataError: they differ in shape or dtype.
    """
    for example in examples:
        check_same_format(examples[0], example, key)
    return np.stack([example[key] for example in examples])


def check_same_format(first: Example, example: Example, key: Literal["image", "label"]) -> None:
    """Checks that an array of `example` can be stacked with the same array of `first`.

    Raises:
      DataError: they differ in shape or dtype, or have a dtype other than uint8 and, for images, float32; the message
        names both examples.
    """
    array, like = example[key], first[key]
    if array.shape != like.shape or array.dtype != like.dtype or array.dtype not in _DTYPES[key]:
        raise DataError(
            f"{example['id']}: {key} is {array.dtype}{list(array.shape)} where {first['id']} has "
            f"{like.dtype}{list(like.shape)}; all {key}s of a dataset must have the same number of channels and be "
            f"{' or all '.join(map(str, _DTYPES[key]))}. Save all with the same channels and bit depth; "
            "folder(channels=3) also converts gray images to RGB"
        )


def check_image(image: np.ndarray, example_id: str) -> None:
    """Checks that an image has no value that is NaN or infinite, which would spoil every weight in one step.

    Raises:
      DataError: it has; the message names the example and the number of such values.
    """
    if image.dtype != np.uint8:
        check_finite(image, example_id)


def check_label(label: np.ndarray, num_classes: int, example_id: str) -> None:
    """Checks that a label contains only class indices and IGNORE_LABEL.

    Args:
      label: uint8[H, W].
      num_classes: the number of classes.
      example_id: the name of the example, for the message.

    Raises:
      DataError: the label contains other values; the message lists them.
    """
    if label.max(initial=0) < num_classes:
        return
    wrong = label[(label >= num_classes) & (label != IGNORE_LABEL)]
    if wrong.size:
        raise DataError(
            f"{example_id}: the label has the values {', '.join(map(str, np.unique(wrong)[:10]))}, but the dataset has "
            f"{num_classes} classes, so only 0..{num_classes - 1} and {IGNORE_LABEL} (ignored) are allowed; map the "
            "values to classes where the dataset is read, or raise its num_classes"
        )


def local_batch_size(dataset: SegmentationDataset, batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the number of examples of each batch that this process reads.

    Raises:
      ArgumentError: a batch size that is not a multiple of the number of processes.
      DataError: an empty dataset.
    """
    if len(dataset.source) == 0:
        raise DataError("the dataset has no examples; check its folder and the name of the split")
    if batch_size < 1 or batch_size % process_count:
        raise ArgumentError("batch_size", batch_size, f"must be a positive multiple of {process_count} process(es)")
    check_integer("process_index", process_index, 0, process_count - 1)
    return batch_size // process_count
