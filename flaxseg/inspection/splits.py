"""What a configuration's dataset holds, whether it can be trained on, and pictures of it."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from flaxseg.data import DATASETS, SegmentationDataset
from flaxseg.data.bad_examples import BadExamples, Skipping
from flaxseg.data.class_weights import WEIGHTINGS
from flaxseg.data.masks.class_values import class_values
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.statistics import Statistics, scan
from flaxseg.data.types import IGNORE_LABEL, Batch
from flaxseg.errors import ConfigError, DataError, FlaxsegError
from flaxseg.inspection import findings, mask_values
from flaxseg.inspection.contact_sheet import contact_sheet, picture, spread
from flaxseg.inspection.findings import Finding, Setting, flag
from flaxseg.inspection.report import Inspection, Split
from flaxseg.losses import LOSSES
from flaxseg.models import MODELS
from flaxseg.registry import look_up, option_names
from flaxseg.train import build as experiment
from flaxseg.train import inputs

_NUM_BATCHES = 2
_MOST_OF_A_BATCH = 12

SHEETS = ("train.png", "eval.png", *(f"batch_{step}.png" for step in range(_NUM_BATCHES)))
"""The names of all contact sheets that there can be."""


def inspect_splits(config: ConfigDict, *, title: str, most: int) -> tuple[Inspection, dict[str, np.ndarray]]:
    """Reads both splits of a valid configuration's dataset.

    Args:
      config: as for training.
      title: what the page calls it.
      most: how many pictures of each split are shown.

    Returns:
      What was found, and its contact sheets by file name, each uint8[H, W, 3].
    """
    splits = [_read(config, role, config.data[f"{role}_split"]) for role in ("train", "eval")]
    found = _findings(config, splits)
    sheets = {}
    for split in splits:
        if most and not split.error and split.statistics and len(split.statistics.places):
            number = min(most, len(split.statistics.places))
            what = f"{split.role} ({split.name}): {number} of its pictures, labels over them"
            sheets[f"{split.role}.png"] = (what, _examples_sheet(split, what, most))
    train = splits[0].dataset
    if train and all(finding.severity != "error" for finding in found):
        try:
            sheets |= _batch_sheets(config, train)
        except DataError as error:
            found.append(Finding("error", f"batches: {error}"))
    inspection = Inspection(
        title=title,
        splits=splits,
        findings=found,
        settings=_settings(config, splits[0]),
        pictures=[(what, file) for file, (what, _) in sheets.items()],
    )
    return inspection, {file: sheet for file, (_, sheet) in sheets.items()}


def _read(config: ConfigDict, role: str, name: str) -> Split:
    """A split with the facts of its examples; where it cannot be opened, those that can be had without its classes."""
    error = ""
    try:
        dataset = inputs.load_dataset(config, name)
    except FlaxsegError as problem:
        error, bare = str(problem), _without_classes(config, name)
        if bare is None:
            return Split(role, name, error)
        dataset = bare
    return Split(role, name, error, dataset, scan(dataset, num_threads=config.data.num_threads, description=role))


def _without_classes(config: ConfigDict, name: str) -> SegmentationDataset | None:
    """The split with every mask value as a class, so that one bad mask does not hide the others; None if it cannot."""
    given = config.data.options
    if "values" not in _options(config) or given.get("colors"):
        return None
    values = tuple(value for value in range(IGNORE_LABEL) if value not in given.get("ignore_values", ()))
    kept = {key: value for key, value in given.items() if key not in ("class_names", "reduce_zero_label")}
    bare = copy.deepcopy(config)
    bare.data.options = kept | {"values": values, "palette": default_palette(len(values))}
    try:
        return inputs.load_dataset(bare, name)
    except FlaxsegError:
        return None


def _options(config: ConfigDict) -> list[str]:
    """The options of the dataset that a setting can add to those that are given."""
    known = option_names(look_up(config.data.name, DATASETS, argument="config.data.name"))
    return [name for name in known if name != "reduce_zero_label" or not config.data.options.get("values")]


def _findings(config: ConfigDict, splits: Sequence[Split]) -> list[Finding]:
    found = [Finding("error", f"{split.role}: cannot be opened: {split.error}") for split in splits if split.error]
    options = _options(config)
    known = [split.statistics for split in splits if not split.error and split.statistics]
    given = config.data.options
    allowed, named = config.data.skip_bad, bool(given.get("class_names"))
    found += mask_values.of_unknown_values(known, options=options, named=named, skip_bad=allowed)
    read = {split.role: split.statistics for split in splits if split.statistics}
    found += mask_values.of_unknown_colors(list(read.values()), options=options, skip_bad=allowed)
    found += findings.of_problems(read, skip_bad=allowed)
    for role, statistics in read.items():
        found += findings.of_split(role, statistics, options=options)
        found += findings.of_value_range(role, statistics, given.get("value_range"), options=options)
    if len(known) == len(splits):
        found += _of_both(config, splits, *known)
    if known and not given.get("reduce_zero_label"):
        values, ignored = class_values(given.get("values") or (0, 1)), given.get("ignore_values", ())
        found += mask_values.of_silent_values(known, values=values, ignored=ignored, options=options)
    found += _inferred(config, splits[0])
    order = ("error", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _inferred(config: ConfigDict, train: Split) -> list[Finding]:
    """A note where a class was made of every mask value, and named by it, as the dataset `folder` alone does."""
    given, options = config.data.options, _options(config)
    told = any(given.get(option) for option in ("values", "class_names", "colors", "reduce_zero_label"))
    if told or config.data.name != "folder" or train.error or train.dataset is None or train.statistics is None:
        return []
    names = train.dataset.class_names
    if len(names) < 3 or not all(name.isdigit() for name in names):
        return []
    values = [int(name) for name in names]
    shares, ignored = train.statistics.shares, given.get("ignore_values", ())
    return mask_values.of_inferred_values(values, shares, ignored, options=options)


def _of_both(config: ConfigDict, splits: Sequence[Split], train: Statistics, evaluation: Statistics) -> list[Finding]:
    """What shows only beside the other split; classes and sizes are those of the examples that can be used."""
    train_data, eval_data = splits[0].dataset, splits[1].dataset
    assert train_data is not None and eval_data is not None
    try:
        inputs.check_classes(config, train_data, eval_data)
    except ConfigError as error:
        return [Finding("error", str(error))]
    found = []
    if len(train.ids) and len(evaluation.ids):
        found += findings.of_classes(train, evaluation, train_data.class_names)
        found += findings.of_balance(train, train_data.class_names)
        found += findings.of_sizes("train", train, tuple(config.data.image_size))
        found += findings.of_channels(train, evaluation, options=_options(config))
        found += findings.of_duplicates(train, evaluation)
    return found


def _settings(config: ConfigDict, train: Split) -> list[Setting]:
    """Class weights and the pictures' own mean and deviation, as flags."""
    if train.error or not train.statistics or not train.statistics.counts[:, :-1].any():
        return []
    takes_weights = any("class_weights" in _loss_options(name) for name in config.loss)
    before = [] if takes_weights else [flag("loss.cross_entropy", 1.0)]
    found = []
    for weighting, function in WEIGHTINGS.items():
        weights = flag("class_weights", _digits(function(train.statistics.counts[:, :-1])))
        found.append(Setting(f"class weights ({weighting.replace('_', ' ')})", " ".join([*before, weights])))
    model_options = option_names(look_up(config.model.name, MODELS, argument="config.model.name"))
    mean, std = train.statistics.mean, train.statistics.std
    if mean is not None and std is not None and {"mean", "std"} <= set(model_options):
        # A channel that is everywhere the same would be divided by 0.
        values = {"mean": _digits(mean), "std": _digits(np.where(std > 0, std, 1.0))}
        texts = " ".join(flag(f"model.options.{key}", value) for key, value in values.items())
        found.append(Setting("the training pictures' own mean and deviation", texts))
    return found


def _loss_options(name: str) -> list[str]:
    return option_names(look_up(name, LOSSES, argument="config.loss"))


def _digits(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)


def _examples_sheet(split: Split, title: str, most: int) -> np.ndarray:
    dataset, statistics = split.dataset, split.statistics
    assert dataset is not None and statistics is not None
    shown = []
    for index in spread(statistics.places, most):
        example = dataset.source[index]
        shown.append(picture(example["image"], example["label"], example["id"], dataset.palette))
    return contact_sheet(shown, title, dataset, statistics.shares, statistics.ignored_share)


def _batch_sheets(config: ConfigDict, train: SegmentationDataset) -> dict[str, tuple[str, np.ndarray]]:
    sheets = {}
    for step, batch in enumerate(first_batches(config, train)):
        size = len(batch["label"])
        most = min(size, _MOST_OF_A_BATCH)
        shown = []
        for i, (image, label) in enumerate(zip(batch["image"][:most], batch["label"][:most], strict=True)):
            shown.append(picture(image, None, f"{i + 1} of {size}", train.palette))
            shown.append(picture(image, label, "with its label", train.palette))
        title = f"training batch {step + 1} as the network sees it: {most} of {size} pictures"
        pixels = np.bincount(batch["label"].ravel(), minlength=256)
        classes, ignored = pixels[: train.num_classes], pixels[IGNORE_LABEL]
        sheet = contact_sheet(shown, title, train, classes / max(int(classes.sum()), 1), ignored / pixels.sum())
        sheets[f"batch_{step}.png"] = title, sheet
    return sheets


def first_batches(config: ConfigDict, train: SegmentationDataset) -> Iterator[Batch]:
    """Yields the batches of the first steps, changed at random as those steps of a training run change them.

    Raises:
      DataError: an example cannot be read, or all of them do not fit into memory.
    """
    if config.data.skip_bad:
        bad = BadExamples(config.data.skip_bad, lambda message: None)
        train = dataclasses.replace(train, source=Skipping(train.source, bad, config.data.train_split))
    batches, augment_fn = inputs.host_batches(config, train), experiment.make_augment_fn(config)
    change: Any = jax.jit(augment_fn) if augment_fn else lambda key, batch: batch
    run_key = experiment.run_key(config)
    for step in range(_NUM_BATCHES):
        key, _ = jax.random.split(jax.random.fold_in(run_key, step))
        yield jax.device_get(change(key, batches[step]))
