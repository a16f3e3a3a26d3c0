"""Opens the splits of a dataset by name, and checks that they match."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from flaxseg.data.datasets import DATASETS
from flaxseg.data.masks.class_values import MaskValue
from flaxseg.data.sources.split_lists import EVALUATION_SPLITS, SPLIT
from flaxseg.data.threads import read_in_order
from flaxseg.data.types import IGNORE_LABEL, SegmentationDataset
from flaxseg.errors import ArgumentError, DataError, number_of
from flaxseg.registry import look_up, option_names

_SAMPLED = 8
"""The number of labels that `check_several_classes` reads first."""


def open_dataset(
    name: str, split: str, *, data_dir: str = "", options: Mapping[str, Any] | None = None
) -> SegmentationDataset:
    """Returns a split of a dataset.

    Args:
      name: a name of DATASETS, or `package.module:function` for a dataset of your own.
      split: the split, as the dataset names it.
      data_dir: the directory of the dataset; "" for the dataset's default. Ignored by datasets without files.
      options: further keyword arguments of the dataset's function.

    Raises:
      ArgumentError: an unknown name, or an option that is unknown or out of range.
      DataError: the dataset is missing or cannot be used.
    """
    function = look_up(name, DATASETS)
    directory = {"data_dir": data_dir} if "data_dir" in option_names(function) else {}
    try:
        dataset = function(split, **directory, **options or {})
    except ArgumentError as error:
        raise (error if error.argument in ("split", "data_dir") else error.under("options")) from error
    if not isinstance(dataset, SegmentationDataset):
        raise ArgumentError(
            "name",
            name,
            f"returned a {type(dataset).__name__}; the function of a dataset has to return a SegmentationDataset",
        )
    return dataset


def settings_to_open(
    error: DataError, *, option_names: Collection[str], layout: Mapping[str, Any], eval_split: str
) -> dict[str, Any]:
    """Returns the settings with which a dataset that cannot be opened can probably be opened; {} if none are known.

    Args:
      error: why it cannot be opened.
      option_names: the options of the dataset.
      layout: for a dataset with fixed folders, the options with which `folder` reads the same ones; else empty.
      eval_split: the split to evaluate on; "" for none.

    Returns:
      Options of the dataset by name, and, where they are needed, `eval_split`, and `config` for another dataset.
    """
    settings = dict(error.options)
    if not settings.keys() <= set(option_names):
        settings = {"config": "folder", **({} if "images" in settings else layout), **settings}
    if eval_split and error.splits and eval_split not in error.splits:
        others = [split for split in EVALUATION_SPLITS if split in error.splits]
        settings |= {"eval_split": others[0]} if others else {}
    return settings


def open_without_masks(
    name: str, split: str, *, data_dir: str = "", options: Mapping[str, Any] | None = None
) -> SegmentationDataset:
    """Returns a split of a dataset as `open_dataset` does, but does not read its masks if it has the option `masks`.

    The pixels of its images are all ignored then.

    Raises:
      ArgumentError, DataError: see `open_dataset`.
    """
    has_option = "masks" in option_names(look_up(name, DATASETS))
    return open_dataset(
        name, split, data_dir=data_dir, options={**(options or {}), **({"masks": ""} if has_option else {})}
    )


def check_same_classes(splits: Mapping[str, SegmentationDataset]) -> None:
    """Checks that the splits of a dataset have the same classes, and at least two.

    Args:
      splits: the splits by name.

    Raises:
      DataError: they do not.
    """
    (name, first), *others = splits.items()
    for other_name, other in others:
        if first.class_names != other.class_names:
            raise DataError(
                f"the splits differ in their classes: {name!r} has {', '.join(first.class_names)}; {other_name!r} has "
                f"{', '.join(other.class_names)}; give both splits the same class values and names"
            )
    if first.num_classes == 1:
        raise DataError(
            f"the dataset has one class, {first.class_names[0]!r}, so there is nothing to distinguish; check which "
            "mask values are classes (for the dataset folder: its option `values`)"
        )


def check_several_classes(
    dataset: SegmentationDataset, *, values: Sequence[MaskValue] = (), num_threads: int = 0
) -> None:
    """Checks that more than one class occurs in the labels of a training set, if pixels are ignored.

    Masks of 0 and 255 have one class where 255 is not the value of another. Reads up to 8 labels, spread over the
    dataset. Only if these have one class and ignored pixels, the others are read, until one has another class. Examples
    that cannot be read are left out.

    Args:
      dataset: the training set.
      values: the mask values of the classes, if 255 may be the value of another one; see `values_beside_255`.
      num_threads: the number of threads that read; 0 uses the calling thread, -1 one thread per core.

    Raises:
      DataError: one class occurs, beside ignored pixels; its `options` are the `values` that include 255.
    """

    def pixels_of(index: int) -> np.ndarray:
        try:
            label = dataset.source[index]["label"]
        except DataError:
            return np.zeros(256, np.int64)
        # A label of another type is an error of the first batch.
        return np.bincount(label.ravel() if label.dtype == np.uint8 else (), minlength=256)

    def classes() -> np.ndarray:
        return np.flatnonzero(pixels[: dataset.num_classes])

    count, pixels = len(dataset.source), np.zeros(256, np.int64)
    sampled = sorted({position * count // _SAMPLED for position in range(_SAMPLED)} if count else ())
    for index in sampled:
        pixels += pixels_of(index)
    if len(classes()) != 1 or not pixels[IGNORE_LABEL]:
        return
    others = sorted({*range(count)} - {*sampled})
    for found in read_in_order(others, pixels_of, num_threads=num_threads, description="class pixels"):
        pixels += found
        if len(classes()) > 1:
            return
    (lone,) = classes()
    by_default = ": 255 is ignored unless it is the value of a class" if values else ""
    raise DataError(
        f"only the class {dataset.class_names[lone]} occurs in the masks to train on, and "
        f"{pixels[IGNORE_LABEL] / pixels.sum():.1%} of their pixels are ignored, so there is nothing to distinguish"
        f"{by_default}. `flaxseg inspect`, with the same arguments, shows how the masks are read",
        options={"values": (values[lone], IGNORE_LABEL)} if values else {},
    )


def large_batch(batch_size: int, num_examples: int) -> str:
    """Returns a warning if a batch has more examples than the training set; "" otherwise."""
    if not 0 < num_examples < batch_size:
        return ""
    return (
        f"batch_size = {batch_size:,}, but the training set has {number_of(num_examples, 'example')}, so every batch "
        "repeats some; use at most as many"
    )


def unused_lists(dataset: SegmentationDataset) -> str:
    """Returns a warning if lists exist for both splits, but a random choice was made; "" otherwise."""
    lists = dataset.selection.unused_lists if dataset.selection else ""
    if not lists:
        return ""
    train, val = (lists.replace(SPLIT, split) for split in ("train", "val"))
    return (
        f"the files are divided into train and val at random, and the lists {train} and {val} are not used; "
        f"split_list={lists!r} reads them"
    )


def common_channels(splits: Mapping[str, SegmentationDataset]) -> int:
    """Returns the number of channels of the images, according to the first image of each split.

    Args:
      splits: the splits by name.

    Raises:
      DataError: the splits differ, or the first example of one cannot be read.
    """
    channels = {name: int(dataset.source[0]["image"].shape[-1]) for name, dataset in splits.items()}
    if len(set(channels.values())) > 1:
        listing = ", ".join(f"images of the split {name!r} have {number} channels" for name, number in channels.items())
        raise DataError(f"{listing}; save all images with the same channels")
    return next(iter(channels.values()))
