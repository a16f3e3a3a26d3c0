"""The input of a run: the datasets that a configuration names, and their batches."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flaxseg import augment
from flaxseg.data import DATASETS
from flaxseg.data.bad_examples import BadExamples, Skipping
from flaxseg.data.pipeline import canvas_reader, eval_batches, train_batches, train_indices
from flaxseg.data.sampling import class_balanced_weights, read_weights
from flaxseg.data.statistics import class_counts
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ConfigError
from flaxseg.registry import look_up, option_names
from flaxseg.train import device_cache


def load_dataset(config: ConfigDict, split: str) -> SegmentationDataset:
    """Returns a split of the dataset that a configuration names.

    Raises:
      DataError: it is not there, or cannot be used.
    """
    function = look_up(config.data.name, DATASETS, argument="config.data.name")
    place = {"data_dir": config.data.dir} if "data_dir" in option_names(function) else {}
    dataset = function(split, **place, **config.data.options)
    if not isinstance(dataset, SegmentationDataset):
        raise ConfigError(
            f"config.data.name = {config.data.name!r}: returned a {type(dataset).__name__}; a dataset's function "
            "returns a flaxseg.SegmentationDataset"
        )
    return dataset


def load_splits(config: ConfigDict, bad: BadExamples) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Returns the datasets to train on and to evaluate on.

    Args:
      config: its `data`.
      bad: counts what cannot be read, where the configuration allows for it.

    Raises:
      ConfigError: they differ in their classes, or have only one.
      DataError: one is not there, or cannot be used.
    """
    train_data, eval_data = (load_dataset(config, split) for split in (config.data.train_split, config.data.eval_split))
    check_classes(config, train_data, eval_data)
    if config.data.skip_bad:
        train_data = _skipping(train_data, bad, config.data.train_split)
        eval_data = _skipping(eval_data, bad, config.data.eval_split, ignored=True)
    return train_data, eval_data


def check_classes(config: ConfigDict, train_data: SegmentationDataset, eval_data: SegmentationDataset) -> None:
    """Checks that both splits have the same classes, and more than one.

    Raises:
      ConfigError: they do not.
    """
    if train_data.class_names != eval_data.class_names:
        raise ConfigError(
            f"config.data: the splits differ in their classes: {config.data.train_split!r} has "
            f"{', '.join(train_data.class_names)}; {config.data.eval_split!r} has {', '.join(eval_data.class_names)}"
        )
    if train_data.num_classes == 1:
        raise ConfigError(
            f"config.data: the dataset has one class, {train_data.class_names[0]!r}, so there is nothing to tell "
            "apart; check the values of its masks (for the dataset folder: data.options.values)"
        )


def _skipping(
    dataset: SegmentationDataset, bad: BadExamples, split: str, *, ignored: bool = False
) -> SegmentationDataset:
    return dataclasses.replace(dataset, source=Skipping(dataset.source, bad, split, ignored))


def host_batches(config: ConfigDict, train_data: SegmentationDataset) -> Any:
    """Returns this process's share of the training batches, decoded on the host: [n] is that of step n."""
    return train_batches(
        train_data,
        canvas_size=_canvas_size(config),
        cache=config.data.cache == "host",
        **_order(config, train_data),
    )


def make_train_batches(
    config: ConfigDict, train_data: SegmentationDataset, mesh: Mesh
) -> tuple[Any, Callable[[], device_cache.Stored] | None]:
    """Returns the training batches, and what puts their dataset on the devices if that is asked for."""
    if config.data.cache != "device":
        return host_batches(config, train_data), None
    read = canvas_reader(train_data, _canvas_size(config))
    load = functools.partial(device_cache.load, len(train_data.source), read, mesh, num_threads=config.data.num_threads)
    return train_indices(train_data, **_order(config, train_data)), load


def _canvas_size(config: ConfigDict) -> tuple[int, int]:
    return augment.canvas_size(tuple(config.data.image_size), config.augment.scale)


def _order(config: ConfigDict, train_data: SegmentationDataset) -> dict[str, Any]:
    """Returns what decides which examples a step gets."""
    return {
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "weights": _weights(config, train_data),
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }


def _weights(config: ConfigDict, train_data: SegmentationDataset) -> np.ndarray | None:
    """Returns how often each training picture comes, relative to the others; None: each alike."""
    if config.data.sampling == "uniform":
        return None
    if config.data.sampling == "class_balanced":
        counts = class_counts(train_data, num_threads=config.data.num_threads)
        return class_balanced_weights(counts[:, : train_data.num_classes])
    return read_weights(config.data.sampling, train_data.source)


def make_eval_batches(config: ConfigDict, eval_data: SegmentationDataset) -> Any:
    """Returns this process's share of the batches of one evaluation."""
    return eval_batches(
        eval_data,
        image_size=tuple(config.data.image_size),
        batch_size=config.eval.batch_size,
        native=config.eval.resolution == "native",
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def channels(config: ConfigDict, train_data: SegmentationDataset, eval_data: SegmentationDataset) -> int:
    """Returns how many channels pictures have, by the first of each split; ConfigError where the splits differ."""
    trained, scored = (data.source[0]["image"].shape[-1] for data in (train_data, eval_data))
    if trained != scored:
        raise ConfigError(
            f"config.data: pictures of the split {config.data.train_split!r} have {trained} channels, those of "
            f"{config.data.eval_split!r} have {scored}; save all with the same channels"
        )
    return int(trained)
