"""The data of a run: the datasets that a configuration names, and their batches."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flaxseg.augment import canvas_size
from flaxseg.config.flags import flag, flags_to_open
from flaxseg.config.validate import config_key
from flaxseg.data.bad_examples import BadExamples, skip_bad_examples
from flaxseg.data.batching import stack_examples
from flaxseg.data.evaluation import eval_batches
from flaxseg.data.masks.class_values import values_beside_255
from flaxseg.data.pipeline import canvas_reader, iterate, train_batches_by_seed
from flaxseg.data.sampling import sampling_weights
from flaxseg.data.splits import (
    check_same_classes,
    check_several_classes,
    common_channels,
    large_batch,
    open_dataset,
    unused_lists,
)
from flaxseg.data.types import Batch, SegmentationDataset
from flaxseg.errors import DataError, MissingMasks, UnknownColors
from flaxseg.report.console import print_line
from flaxseg.train import device_cache
from flaxseg.train.parts.augmentation import build_augmentation
from flaxseg.train.sharding import stacked
from flaxseg.train.views import Views


@dataclasses.dataclass(frozen=True)
class TrainingOrder:
    """The training batches in the order of a run, and in others.

    Attributes:
      batches: see `DataPart.train_batches`.
      of_seed: `of_seed(seed)` returns such batches in the order of another seed.
    """

    batches: Any
    of_seed: Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class DataPart:
    """The datasets of a run and their batches.

    Attributes:
      train: the training set.
      evaluation: the evaluation set; None if the run is not evaluated.
      order: the training batches.
      eval_batches: the sequence of this process's batches of one evaluation; empty without an evaluation set.
      cache: what fills the cache that the indices in batches refer to, of examples on the devices or of features;
        None if the batches contain the examples.
      iterate: `iterate(batches, start=0)` yields batches that threads prefetch.
      channels: number of channels of the images.
      bad_examples: the examples found unreadable so far.
    """

    train: SegmentationDataset
    evaluation: SegmentationDataset | None
    order: TrainingOrder
    eval_batches: Sequence[Batch]
    cache: device_cache.Loader | Views | None
    iterate: Callable[..., Iterator[Batch]]
    channels: int
    bad_examples: BadExamples

    @property
    def load_cache(self) -> device_cache.Loader | None:
        """Copies the training set to the devices and returns it; None if it is not cached there."""
        return self.cache if isinstance(self.cache, device_cache.Loader) else None

    @property
    def views(self) -> Views | None:
        """The examples whose features are cached; None if there is no such cache."""
        return self.cache if isinstance(self.cache, Views) else None

    @property
    def splits(self) -> dict[str, SegmentationDataset]:
        """The datasets by their role, "train" and, if the run is evaluated, "eval"."""
        return {"train": self.train} | ({} if self.evaluation is None else {"eval": self.evaluation})

    @property
    def to_show(self) -> SegmentationDataset:
        """The dataset that examples, class names and colors are shown of: the evaluation set, if there is one."""
        return self.train if self.evaluation is None else self.evaluation

    @property
    def train_batches(self) -> Any:
        """`train_batches[n]` is this process's part of the batch of step n, from 0.

        It is decoded on the host, or only has the indices of its examples where these or their features are cached.
        """
        return self.order.batches

    def calls(self, *, start: int, steps: int) -> Iterator[Batch]:
        """Yields the training batches of each call of the training program.

        Args:
          start: the step to begin with, from 0.
          steps: number of steps of a call; above 1, each array has a leading axis of steps.
        """
        batches = self.iterate(self.train_batches, start=start)
        return batches if steps == 1 else stacked(batches, steps)

    def read_batch(self, step: int) -> Batch:
        """Returns this process's part of the batch of step `step`, from 0, read from the dataset, without cached views.

        Raises:
          DataError: an example cannot be read.
        """
        batch: Batch = self.train_batches[step]
        if self.load_cache is None:
            return batch
        return {**batch, **stack_examples([self.load_cache.read(index) for index in batch["index"].tolist()])}

    def after_rollbacks(self, count: int, *, seed: int) -> "DataPart":
        """Returns the same data in the order of a run that has returned to a checkpoint `count` times.

        Args:
          count: number of returns; 0 leaves the order as it is.
          seed: the random seed of the run.
        """
        if not count:
            return self
        return self.of_seed(int(np.random.SeedSequence((seed, count)).generate_state(1, np.uint64)[0] >> 1))

    def of_seed(self, seed: int) -> "DataPart":
        """Returns the same data, with the same cache, in the order of another seed."""
        return dataclasses.replace(self, order=TrainingOrder(self.order.of_seed(seed), self.order.of_seed))


def build_data(config: ConfigDict, mesh: Mesh) -> DataPart:
    """Returns the datasets of a valid configuration and their batches.

    Raises:
      ConfigError: an option of the dataset is unknown or out of range.
      DataError: a dataset is missing or cannot be used, or the splits do not fit one another.
    """
    settings, options, num_threads = config.data, train_batch_options(config), config.data.num_threads
    keys = ("train_split", "eval_split") if settings.eval_split else ("train_split",)
    opened = {key: _open_split(config, key) for key in keys}
    check_same_classes({settings[key]: dataset for key, dataset in opened.items()})
    _check_several_classes(config, opened["train_split"])
    if jax.process_index() == 0:
        _warn_of_unused_lists(opened["train_split"])
    bad_examples = BadExamples(settings.skip_bad, print_line)
    opened = {
        key: skip_bad_examples(dataset, bad_examples, settings[key], ignored=key == "eval_split")
        for key, dataset in opened.items()
    }
    train, evaluation = opened["train_split"], opened.get("eval_split")
    weights = sampling_weights(settings.sampling, train, num_threads=num_threads)
    if jax.process_index() == 0 and (warning := large_batch(config.train.batch_size, len(train.source))):
        print_line(f"warning: config.train.{warning}")
    with config_key("train"):
        of_seed = train_batches_by_seed(
            train, **options, cache=settings.cache, views=settings.cache_views, weights=weights
        )
        order = TrainingOrder(of_seed(config.seed), of_seed)
    channels = common_channels({settings[key]: dataset for key, dataset in opened.items()})
    return DataPart(
        train=train,
        evaluation=evaluation,
        order=order,
        eval_batches=() if evaluation is None else _eval_batches(config, evaluation),
        cache=_cache(config, train, mesh, channels=channels),
        iterate=functools.partial(iterate, num_threads=num_threads, prefetch=settings.prefetch),
        channels=channels,
        bad_examples=bad_examples,
    )


def _check_several_classes(config: ConfigDict, train: SegmentationDataset) -> None:
    """Raises DataError if one class occurs in a training set, beside ignored pixels."""
    settings = config.data
    # Values that were found in the masks are those of classes that occur in another split.
    values = values_beside_255(settings.options, train.num_classes) if settings.options.get("values") else ()
    with _adding_remedy(settings, "train_split"):
        check_several_classes(train, values=values, num_threads=settings.num_threads)


def _warn_of_unused_lists(train: SegmentationDataset) -> None:
    if train.selection and (warning := unused_lists(train)):
        lists = flag("split_list", train.selection.unused_lists)
        print_line(f"warning: {warning}. On the command line, add {lists}")


def _open_split(config: ConfigDict, key: str) -> SegmentationDataset:
    """Returns the split that a key of `data` names."""
    settings = config.data
    with _adding_remedy(settings, key), config_key("data", data_dir="dir", split=key):
        return open_dataset(settings.name, settings[key], data_dir=settings.dir, options=settings.options)


@contextlib.contextmanager
def _adding_remedy(settings: ConfigDict, key: str) -> Iterator[None]:
    """Adds to an error of the split that a key of `data`'s settings names what to do about it."""
    try:
        yield
    except DataError as error:
        if remedy := _remedy(error, key, settings):
            raise DataError(f"{error}\n{remedy}") from error
        raise


def _remedy(error: DataError, key: str, settings: ConfigDict) -> str:
    """Returns what to do about an error of the split that a key of `data`'s settings names; "" if unknown."""
    if isinstance(error, UnknownColors):
        return "`flaxseg inspect`, with the same arguments, lists the colors of all masks, with settings"
    if isinstance(error, MissingMasks):
        return "To train without evaluation, add --config.data.eval_split=" if key == "eval_split" else ""
    return flags_to_open(error, settings)


def _eval_batches(config: ConfigDict, evaluation: SegmentationDataset) -> Sequence[Batch]:
    options = train_batch_options(config)
    with config_key("eval"):
        return eval_batches(
            evaluation,
            image_size=tuple(config.data.image_size),
            batch_size=config.eval.batch_size,
            native=config.eval.resolution == "native",
            scale=options["scale"],
            process_index=options["process_index"],
            process_count=options["process_count"],
        )


def _cache(
    config: ConfigDict, train: SegmentationDataset, mesh: Mesh, *, channels: int
) -> device_cache.Loader | Views | None:
    settings = config.data
    if settings.cache not in ("device", "features"):
        return None
    count, read = len(train.source), canvas_reader(train, train_batch_options(config)["canvas_size"])
    if settings.cache == "device":
        return device_cache.Loader(count, read, mesh, settings.num_threads)
    return Views(
        count=count,
        read=read,
        number=settings.cache_views,
        augment_fn=build_augmentation(config, channels),
        seed=config.seed,
        batch_size=config.train.batch_size,
        num_threads=settings.num_threads,
    )


def train_batch_options(config: ConfigDict) -> dict[str, Any]:
    """Returns the arguments of `train_batches_by_seed` that a valid configuration determines without its data."""
    keep = config.data.resize == "keep"
    return {
        "canvas_size": canvas_size(tuple(config.data.image_size), config.augment.scale, keep=keep),
        "scale": float(config.data.scale) if keep else None,
        "batch_size": config.train.batch_size,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
