"""The inputs of an inspection from a configuration."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from flaxseg.config.validate import config_key
from flaxseg.data import DATASETS
from flaxseg.data.bad_examples import BadExamples, skip_bad_examples
from flaxseg.data.datasets import LAYOUTS
from flaxseg.data.masks.class_table import read_class_table
from flaxseg.data.pipeline import train_batches
from flaxseg.data.sampling import sampling_weights
from flaxseg.data.splits import open_dataset
from flaxseg.data.types import Batch, SegmentationDataset
from flaxseg.inspection.dataset import DatasetToInspect, TrainingSetup
from flaxseg.losses import LOSSES
from flaxseg.models import MODELS
from flaxseg.registry import look_up, option_names
from flaxseg.train.build import build_augmentation
from flaxseg.train.parts.data import train_batch_options
from flaxseg.train.parts.loop import step_key
from flaxseg.train.step import step_keys


def dataset_to_inspect(config: ConfigDict) -> DatasetToInspect:
    """Returns the dataset that a valid configuration names, for `inspect_dataset`."""
    settings = config.data

    def open_split(split: str, options: Mapping[str, Any]) -> SegmentationDataset:
        with config_key("data", data_dir="dir"):
            return open_dataset(settings.name, split, data_dir=settings.dir, options=options)

    with config_key("data"):
        names = option_names(look_up(settings.name, DATASETS))
    return DatasetToInspect(
        settings.train_split,
        settings.eval_split,
        open_split,
        options=dict(settings.options),
        option_names=names,
        infers_values=settings.name == "folder",
        layout={name: settings.options.get(name, value) for name, value in LAYOUTS.get(settings.name, {}).items()},
        class_table=read_class_table(settings.dir) if settings.dir else {},
    )


def training_setup(config: ConfigDict) -> TrainingSetup:
    """Returns how a run of a valid configuration would use its dataset, for `inspect_dataset`."""
    return TrainingSetup(
        image_size=tuple(config.data.image_size) if config.data.resize == "stretch" else None,
        batch_size=config.train.batch_size,
        skip_bad=config.data.skip_bad,
        train_batches=functools.partial(augmented_batches, config),
        takes_class_weights=any("class_weights" in option_names(look_up(name, LOSSES)) for name in config.loss),
        takes_mean_and_std={"mean", "std"} <= set(option_names(look_up(config.model.name, MODELS))),
    )


def augmented_batches(config: ConfigDict, train: SegmentationDataset) -> Iterator[Batch]:
    """Yields the batches of a training run from step 0 on, augmented as its steps augment them."""
    if config.data.skip_bad:
        train = skip_bad_examples(train, BadExamples(config.data.skip_bad, lambda message: None), "train")
    weights = sampling_weights(config.data.sampling, train, num_threads=config.data.num_threads)
    batches = train_batches(train, **train_batch_options(config), seed=config.seed, weights=weights)
    augment_fn = build_augmentation(config, channels=batches[0]["image"].shape[-1])
    augment: Any = jax.jit(augment_fn) if augment_fn else lambda key, batch: batch
    for step in itertools.count():
        augment_key, _ = step_keys(step_key(config.seed), step)
        yield jax.device_get(augment(augment_key, batches[step]))
