"""The data of a run: the datasets that a configuration names, and their batches."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg.augment import canvas_size
from flaxseg.config.validate import config_key
from flaxseg.data.bad_examples import BadExamples, skip_bad_examples
from flaxseg.data.pipeline import canvas_reader, eval_batches, iterate, train_batches, train_indices
from flaxseg.data.sampling import sampling_weights
from flaxseg.data.splits import check_same_classes, common_channels, open_dataset
from flaxseg.data.types import Batch, SegmentationDataset
from flaxseg.train import device_cache


@dataclasses.dataclass(frozen=True)
class DataPart:
    """The datasets of a run and their batches.

    Attributes:
      train: the training set.
      evaluation: the evaluation set.
      train_batches: `train_batches[n]` is this process's part of the batch of step n: decoded on the host, or
        `{"index": int32[B]}` where the dataset is cached on the devices.
      eval_batches: the sequence of this process's batches of one evaluation.
      load_cache: puts the training set on the devices and returns it; None if batches come from the host.
      iterate: `iterate(batches, start=0)` yields batches that threads read ahead.
      channels: number of channels of the images.
      bad_examples: the examples that could not be read so far.
    """

    train: SegmentationDataset
    evaluation: SegmentationDataset
    train_batches: Any
    eval_batches: Sequence[Batch]
    load_cache: Callable[[], device_cache.Stored] | None
    iterate: Callable[..., Iterator[Batch]]
    channels: int
    bad_examples: BadExamples


def build_data(config: ConfigDict, mesh: Mesh) -> DataPart:
    """Returns the datasets of a valid configuration and their batches.

    Raises:
      ConfigError: an option of the dataset that does not fit.
      DataError: a dataset is missing or cannot be used, or the splits do not fit one another.
    """
    settings, size = config.data, tuple(config.data.image_size)
    canvas = canvas_size(size, config.augment.scale)
    names, num_threads = (settings.train_split, settings.eval_split), settings.num_threads
    splits = {}
    for key, name in zip(("train_split", "eval_split"), names, strict=True):
        with config_key("data", data_dir="dir", split=key):
            splits[name] = open_dataset(settings.name, name, data_dir=settings.dir, options=settings.options)
    check_same_classes(splits)
    train, evaluation = (splits[name] for name in names)
    bad_examples = BadExamples(settings.skip_bad, functools.partial(tqdm.write, file=sys.stderr))
    if settings.skip_bad:
        train = skip_bad_examples(train, bad_examples, names[0])
        evaluation = skip_bad_examples(evaluation, bad_examples, names[1], ignored=True)
    channels = common_channels({names[0]: train, names[1]: evaluation})
    process = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    load_cache, stored = None, settings.cache == "device"
    if stored:
        read = canvas_reader(train, canvas)
        load_cache = functools.partial(device_cache.load, len(train.source), read, mesh, num_threads=num_threads)
    return DataPart(
        train=train,
        evaluation=evaluation,
        eval_batches=eval_batches(
            evaluation,
            image_size=size,
            batch_size=config.eval.batch_size,
            native=config.eval.resolution == "native",
            **process,
        ),
        load_cache=load_cache,
        iterate=functools.partial(iterate, num_threads=num_threads, prefetch=settings.prefetch),
        channels=channels,
        bad_examples=bad_examples,
        train_batches=build_train_batches(config, train, only_indices=stored),
    )


def build_train_batches(config: ConfigDict, train: SegmentationDataset, *, only_indices: bool = False) -> Any:
    """Returns the training batches of a valid configuration: `[n]` is this process's part of the batch of step n.

    Args:
      config: the configuration.
      train: the training set.
      only_indices: leave the examples out; batches are then `{"index": int32[B]}`.

    Raises:
      DataError: an example cannot be read, or they do not all fit into memory.
    """
    canvas = canvas_size(tuple(config.data.image_size), config.augment.scale)
    order = {
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "weights": sampling_weights(config.data.sampling, train, num_threads=config.data.num_threads),
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    if only_indices:
        return train_indices(train, **order)
    return train_batches(train, canvas_size=canvas, cache=config.data.cache == "host", **order)
