"""The inspection of a dataset: reads its splits, runs every check, and draws contact sheets."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flaxseg.data.masks.class_values import values_beside_255
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.splits import check_same_classes, large_batch, settings_to_open, unused_lists
from flaxseg.data.statistics import Statistics, compute_statistics
from flaxseg.data.types import IGNORE_LABEL, Batch, Color, SegmentationDataset
from flaxseg.errors import DataError, FlaxsegError, MissingMasks
from flaxseg.inspection import comparison_checks, mask_colors, mask_values, split_checks, suggestions
from flaxseg.inspection.contact_sheet import ContactSheet, batch_sheet, split_sheet
from flaxseg.inspection.findings import Finding, Setting
from flaxseg.inspection.results import Inspection, Split

_NUM_BATCHES = 2

SHEET_FILES = ("train.png", "eval.png", *(f"batch_{step}.png" for step in range(_NUM_BATCHES)))
"""The file names of all contact sheets that an inspection may draw."""


@dataclasses.dataclass(frozen=True)
class DatasetToInspect:
    """A dataset, and how to open it.

    Attributes:
      train_split: the name of the split to train on.
      eval_split: the name of the split to evaluate on; "" for none.
      open_split: (split, options) -> the opened split; raises FlaxsegError if it cannot be opened.
      options: the options that the user chose, by name; `open_split` is called with these first.
      option_names: all options that the dataset accepts.
      infers_values: whether every mask value becomes a class, named by its number, when no option defines the classes.
      layout: where the classes are those of a published dataset, the options with which the dataset `folder` reads
        other images and masks in the same layout; empty otherwise.
      class_table: the color of each class by its name, if a table beside the masks has them; empty otherwise.
    """

    train_split: str
    eval_split: str
    open_split: Callable[[str, Mapping[str, Any]], SegmentationDataset]
    options: Mapping[str, Any]
    option_names: Sequence[str]
    infers_values: bool = False
    layout: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_table: Mapping[str, Color] = dataclasses.field(default_factory=dict)

    @property
    def suggestible(self) -> list[str]:
        """The options that can be set in addition to the chosen ones."""
        return [name for name in self.option_names if name != "reduce_zero_label" or not self.options.get("values")]


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """How a training run would use the dataset.

    Attributes:
      image_size: the (height, width) to which images are resized; None if they keep their size.
      batch_size: the number of examples in a training batch.
      skip_bad: the number of unusable examples that training tolerates, in both splits together.
      train_batches: (train) -> the augmented batches of the training steps from step 0 on, endless; raises DataError
        if an example cannot be used.
      takes_class_weights: whether a loss in use accepts class weights.
      takes_mean_and_std: whether the model accepts the mean and standard deviation of the images.
    """

    image_size: tuple[int, int] | None
    batch_size: int
    skip_bad: int
    train_batches: Callable[[SegmentationDataset], Iterator[Batch]]
    takes_class_weights: bool
    takes_mean_and_std: bool


def inspect_dataset(
    dataset: DatasetToInspect, training: TrainingSetup, *, title: str, max_images: int = 24, num_threads: int = -1
) -> Inspection:
    """Reads every example of each split, and returns problems with their repairs, and contact sheets.

    Args:
      dataset: the dataset.
      training: how training would use it.
      title: the title of the report.
      max_images: the largest number of images of each split to show; 0 omits the contact sheets of the splits.
      num_threads: threads that read and decode; 0 reads in the calling thread; -1 uses one per core.
    """
    names = {"train": dataset.train_split} | ({"eval": dataset.eval_split} if dataset.eval_split else {})
    splits = [_read_split(dataset, role, name, num_threads) for role, name in names.items()]
    findings = _findings(dataset, training, splits)
    sheets = _split_sheets(splits, max_images) if max_images else []
    train = splits[0].dataset
    if train and all(finding.severity != "error" for finding in findings):
        try:
            batches = itertools.islice(training.train_batches(train), _NUM_BATCHES)
            sheets += [batch_sheet(step, batch, train) for step, batch in enumerate(batches)]
        except DataError as error:
            findings.append(Finding("error", f"batches: {error}"))
    severities = ("error", "warning", "note")
    return Inspection(
        title=title,
        splits=splits,
        findings=sorted(findings, key=lambda finding: severities.index(finding.severity)),
        settings=_suggested_settings(training, splits[0]),
        sheets=sheets,
    )


def _read_split(dataset: DatasetToInspect, role: str, name: str, num_threads: int) -> Split:
    """Opens and reads a split; if it cannot be opened, reads what does not depend on its classes."""
    cause, opened = None, None
    try:
        opened = dataset.open_split(name, dataset.options)
    except FlaxsegError as error:
        cause, opened = error, _open_without_classes(dataset, name)
    statistics = compute_statistics(opened, num_threads=num_threads, description=role) if opened is not None else None
    return Split(role, name, str(cause or ""), opened, statistics, cause)


def _open_without_classes(dataset: DatasetToInspect, name: str) -> SegmentationDataset | None:
    """Opens a split with every mask value as a class, so that one bad mask does not hide others; None on failure."""
    options = dataset.options
    if "values" not in dataset.suggestible or options.get("colors"):
        return None
    values = tuple(value for value in range(IGNORE_LABEL) if value not in options.get("ignore_values", ()))
    kept = {key: value for key, value in options.items() if key not in ("class_names", "reduce_zero_label")}
    try:
        return dataset.open_split(name, kept | {"values": values, "palette": default_palette(len(values))})
    except FlaxsegError:
        return None


def _findings(dataset: DatasetToInspect, training: TrainingSetup, splits: Sequence[Split]) -> list[Finding]:
    options, chosen, skip_bad = dataset.suggestible, dataset.options, training.skip_bad
    colored = {split.role for split in splits if split.needs_colors}
    opened = [split.statistics for split in splits if not split.error and split.statistics]
    read = {split.role: split.statistics for split in splits if split.statistics}
    found = _check_opened(dataset, [split for split in splits if split.role not in colored])
    unknown = mask_values.check_unknown_values(
        opened, options=options, class_names=_chosen_names(dataset, splits), skip_bad=skip_bad
    )
    unknown += mask_colors.check_unknown_colors(
        list(read.values()),
        options=options,
        class_names=chosen.get("class_names", ()),
        class_table=dataset.class_table,
        skip_bad=0 if colored else skip_bad,
    )
    found += unknown
    found += split_checks.check_unreadable(read, skip_bad=skip_bad)
    checked = {role: statistics for role, statistics in read.items() if role not in colored}
    for role, statistics in checked.items():
        found += split_checks.check_split(role, statistics, options=options)
    found += split_checks.check_value_range(checked, chosen.get("value_range"), options=options)
    if opened and not splits[0].error and opened[0].ids and training.image_size:
        found += split_checks.check_image_size("train", opened[0], training.image_size)
    if len(opened) == len(splits):
        # Which classes are missing is only known once the masks can be read.
        found += _compare_splits(
            dataset, splits, opened, check_classes=all(each.severity != "error" for each in unknown)
        )
    if opened and "values" in options:
        found += mask_values.check_ignored_class(opened, values_beside_255(chosen, opened[0].num_classes))
    found += _check_large_batch(training, splits[0])
    return found + _check_unused_lists(dataset, splits[0]) + _check_inferred_values(dataset, splits[0])


def _chosen_names(dataset: DatasetToInspect, splits: Sequence[Split]) -> tuple[str, ...]:
    """Returns the names of the classes, which may be given by a file, if the user chose them; () otherwise."""
    opened = [split.dataset for split in splits if split.dataset is not None and not split.error]
    return opened[0].class_names if opened and dataset.options.get("class_names") else ()


def _check_opened(dataset: DatasetToInspect, splits: Sequence[Split]) -> list[Finding]:
    """Reports splits that cannot be opened; those with the same error, or the same repair, together."""
    groups: dict[Any, list[Split]] = {}
    repairs = {split.role: _repairs(dataset, split, splits) for split in splits if split.error}
    for split in splits:
        if split.error:
            same = str(repairs[split.role]) if repairs[split.role] else split.error.replace(repr(split.name), "SPLIT")
            groups.setdefault(same, []).append(split)
    return [
        Finding(
            "error",
            f"{' and '.join(split.role for split in group)}: cannot be opened: {group[0].error}",
            repairs[group[0].role],
        )
        for group in groups.values()
    ]


def _repairs(dataset: DatasetToInspect, split: Split, splits: Sequence[Split]) -> tuple[Setting, ...]:
    """Returns the settings with which a split could be opened, or left out."""
    if not isinstance(split.cause, DataError):
        return ()
    if isinstance(split.cause, MissingMasks):
        others_open = all(not other.error for other in splits if other is not split)
        is_optional = split.role == "eval" and others_open
        return (Setting("to train without evaluation", {"eval_split": ""}),) if is_optional else ()
    settings = settings_to_open(
        split.cause, option_names=dataset.option_names, layout=dataset.layout, eval_split=dataset.eval_split
    )
    return (Setting("to open them so", settings),) if settings else ()


def _compare_splits(
    dataset: DatasetToInspect, splits: Sequence[Split], statistics: Sequence[Statistics], *, check_classes: bool
) -> list[Finding]:
    """Checks the classes of all splits, and compares the splits with each other, on the usable examples only.

    Args:
      dataset: the dataset.
      splits: its splits.
      statistics: the statistics of each split.
      check_classes: whether to report classes that are missing or rare.
    """
    datasets = {split.name: split.dataset for split in splits if split.dataset is not None}
    try:
        check_same_classes(datasets)
    except FlaxsegError as error:
        return [Finding("error", str(error))]
    if not all(len(each.ids) for each in statistics):
        return []
    (train, *others), class_names = statistics, datasets[splits[0].name].class_names
    found = comparison_checks.check_class_balance(train, class_names) if check_classes else []
    for evaluation in others or [train] if check_classes else []:
        found = [
            *comparison_checks.check_missing_classes(train, evaluation, class_names, layout=dataset.layout),
            *found,
        ]
    for evaluation in others:
        found += comparison_checks.check_matching_channels(train, evaluation, options=dataset.suggestible)
        found += comparison_checks.check_leakage(train, evaluation)
    return found


def _check_large_batch(training: TrainingSetup, train: Split) -> list[Finding]:
    if train.error or train.dataset is None:
        return []
    text = large_batch(training.batch_size, len(train.dataset))
    setting = Setting("for batches without repetition", {"batch_size": len(train.dataset)})
    return [Finding("warning", text, (setting,))] if text else []


def _check_unused_lists(dataset: DatasetToInspect, train: Split) -> list[Finding]:
    if not train.dataset or not train.dataset.selection or "split_list" not in dataset.option_names:
        return []
    text = unused_lists(train.dataset)
    setting = Setting("to read these lists", {"split_list": train.dataset.selection.unused_lists})
    return [Finding("warning", text, (setting,))] if text else []


def _check_inferred_values(dataset: DatasetToInspect, train: Split) -> list[Finding]:
    chosen = dataset.options
    defined = any(chosen.get(option) for option in ("values", "class_names", "colors", "reduce_zero_label"))
    if defined or not dataset.infers_values or train.error or train.dataset is None or train.statistics is None:
        return []
    names = train.dataset.class_names
    if len(names) < 3 or not all(name.isdigit() for name in names):
        return []
    values, ignored = [int(name) for name in names], chosen.get("ignore_values", ())
    return mask_values.check_inferred_values(
        values, train.statistics.class_fractions, ignored, options=dataset.suggestible
    )


def _suggested_settings(training: TrainingSetup, train: Split) -> list[Setting]:
    if train.error or not train.statistics or not train.statistics.counts[:, :-1].any():
        return []
    settings = suggestions.suggest_class_weights(train.statistics, add_loss=not training.takes_class_weights)
    if training.takes_mean_and_std:
        settings += suggestions.suggest_mean_and_std(train.statistics)
    return settings


def _split_sheets(splits: Sequence[Split], max_images: int) -> list[ContactSheet]:
    sheets = []
    for split in splits:
        if split.error or split.dataset is None or split.statistics is None or not len(split.statistics.indices):
            continue
        usable = len(split.statistics.indices)
        title = f"{split.role} ({split.name}): {min(max_images, usable)} of {usable:,} images with their labels"
        sheets.append(split_sheet(f"{split.role}.png", title, split.dataset, split.statistics, max_images))
    return sheets
