"""The inspection of datasets in memory: how splits are opened, and when batches are drawn."""

import dataclasses
import itertools

import numpy as np
import pytest
from list_source import ListSource

from flaxseg.data.masks.class_colors import colored_mask_error
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError, MissingMasks
from flaxseg.inspection.dataset import SHEET_FILES, DatasetToInspect, TrainingSetup, inspect_dataset

LABEL = np.repeat([[0, 0, 1, 1]], 4, 0).astype(np.uint8)
PALETTE = ((0, 0, 0), (250, 0, 0))


def make_split(first_seed, number=2, classes=("sky", "cat")):
    examples = [
        {
            "image": np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8),
            "label": LABEL,
            "id": f"e{seed}",
        }
        for seed in range(first_seed, first_seed + number)
    ]
    return SegmentationDataset(ListSource(examples), len(classes), classes, PALETTE)


SPLITS = {"first": make_split(0), "second": make_split(10)}


def batches_of(train):
    for step in itertools.count():
        example = train.source[step % len(train.source)]
        yield {"image": example["image"][None], "label": example["label"][None]}


def no_batches(train):
    raise AssertionError("batches were drawn from a dataset with errors")


DATASET = DatasetToInspect("first", "second", lambda split, options: SPLITS[split], options={}, option_names=())
TRAINING = TrainingSetup(
    batch_size=1,
    image_size=(4, 4),
    skip_bad=0,
    train_batches=batches_of,
    takes_class_weights=True,
    takes_mean_and_std=True,
)


def inspect(dataset=None, training=None, max_images=1):
    """Inspects the dataset above with other attributes."""
    return inspect_dataset(
        dataclasses.replace(DATASET, **(dataset or {})),
        dataclasses.replace(TRAINING, **(training or {})),
        title="title",
        max_images=max_images,
        num_threads=0,
    )


def test_both_splits_and_the_first_batches_are_shown():
    inspection = inspect()
    assert inspection.trainable and inspection.findings == []
    assert [(split.role, split.name, split.error) for split in inspection.splits] == [
        ("train", "first", ""),
        ("eval", "second", ""),
    ]
    assert tuple(sheet.file for sheet in inspection.sheets) == SHEET_FILES
    assert inspection.sheets[0].title == "train (first): 1 of 2 images with their labels"
    assert [sheet.file for sheet in inspect(max_images=0).sheets] == ["batch_0.png", "batch_1.png"]


def test_settings_are_what_loss_and_model_accept():
    names = [list(setting.arguments) for setting in inspect().settings]
    assert names == [["class_weights"]] * 3 + [["mean", "std"]]
    others = {"takes_class_weights": False, "takes_mean_and_std": False}
    assert [list(setting.arguments) for setting in inspect(training=others).settings] == [
        ["cross_entropy", "class_weights"]
    ] * 3


def test_a_split_that_cannot_be_opened_is_read_without_its_classes():
    opened = []

    def open_split(split, options):
        opened.append((split, options))
        if split == "first" and "palette" not in options:
            raise DataError("one bad mask")
        return SPLITS[split]

    given = {"ignore_values": (7,), "class_names": ("sky", "cat")}
    dataset = {"open_split": open_split, "options": given, "option_names": ("values", "ignore_values")}
    inspection = inspect(dataset, {"train_batches": no_batches})
    assert [finding.text for finding in inspection.findings] == ["train: cannot be opened: one bad mask"]
    assert inspection.splits[0].statistics.num_examples == 2
    assert [split for split, _ in opened] == ["first", "first", "second"]
    reopened = opened[1][1]
    assert reopened.keys() == {"ignore_values", "values", "palette"}
    assert reopened["values"] == (*range(7), *range(8, 255)) and len(reopened["palette"]) == 254
    assert [sheet.file for sheet in inspection.sheets] == ["eval.png"] and inspection.settings == []


@pytest.mark.parametrize("change", [{"option_names": ("task",)}, {"options": {"colors": ((0, 0, 0), (9, 9, 9))}}])
def test_a_split_without_mask_values_is_opened_once(change):
    opened = []

    def open_split(split, options):
        opened.append(split)
        raise DataError("missing")

    inspection = inspect({"open_split": open_split, "option_names": ("values", "colors"), **change})
    assert opened == ["first", "second"]
    assert [finding.text for finding in inspection.findings] == ["train and eval: cannot be opened: missing"]


def test_splits_of_different_classes_are_an_error():
    renamed = dataclasses.replace(SPLITS["second"], class_names=("sky", "dog"))
    splits = {"first": SPLITS["first"], "second": renamed}
    inspection = inspect({"open_split": lambda split, options: splits[split]}, {"train_batches": no_batches})
    (finding,) = inspection.findings
    assert finding.severity == "error"
    assert finding.text.startswith("the splits differ in their classes: 'first' has ")


def test_batches_that_cannot_be_read_are_the_first_finding():
    def fail(train):
        yield from itertools.islice(batches_of(train), 1)
        raise DataError("a file is gone")

    inspection = inspect(training={"train_batches": fail, "image_size": (1, 4)})
    assert [finding.severity for finding in inspection.findings] == ["error", "note"]
    assert inspection.findings[0].text == "batches: a file is gone"


def test_suggestible_options():
    options = ("values", "reduce_zero_label")
    assert dataclasses.replace(DATASET, option_names=options).suggestible == [*options]
    assert dataclasses.replace(DATASET, option_names=options, options={"values": (0, 1)}).suggestible == ["values"]


def test_colored_masks_are_one_finding():
    mask = np.zeros((4, 4, 3), np.uint8)
    examples = [colored_mask_error(mask, name=f"m{index}") for index in range(3)]
    colored = SegmentationDataset(ListSource(examples), 2, ("0", "1"), PALETTE)

    def open_split(split, options):
        if "values" not in options:
            raise colored_mask_error(mask, name="m0")
        return colored

    names = ("values", "colors", "class_names")
    inspection = inspect({"open_split": open_split, "option_names": names}, {"train_batches": no_batches})
    (finding,) = inspection.findings
    assert (finding.severity, finding.settings[0].arguments["colors"]) == ("error", ((0, 0, 0),))
    assert inspection.unusable == [] and inspection.splits[0].statistics.num_examples == 3
    tolerant = inspect({"open_split": open_split, "option_names": names}, {"skip_bad": 9})
    assert not tolerant.trainable


def test_an_evaluation_split_without_masks_may_be_left_out():
    def open_split(split, options):
        if split == "second":
            raise MissingMasks("no masks")
        return SPLITS[split]

    (finding,) = (found for found in inspect({"open_split": open_split}).findings if found.severity == "error")
    assert finding.text == "eval: cannot be opened: no masks"
    assert [setting.arguments for setting in finding.settings] == [{"eval_split": ""}]
    alone = inspect({"open_split": open_split, "eval_split": ""}, {"image_size": (40, 40)})
    assert alone.trainable and [split.role for split in alone.splits] == ["train"]
    assert [sheet.file for sheet in alone.sheets] == ["train.png", "batch_0.png", "batch_1.png"]
    assert any("train: " in finding.text and "smaller" in finding.text for finding in alone.findings)


def test_splits_that_the_same_settings_open_are_one_finding():
    def open_split(split, options):
        raise DataError(f"no masks of {split}/", options={"mask_suffix": "_L"}, splits=("first", "test"))

    given = {"open_split": open_split, "option_names": ("mask_suffix",)}
    (finding,) = inspect(given).findings
    assert finding.text == "train and eval: cannot be opened: no masks of first/"
    assert [setting.arguments for setting in finding.settings] == [{"mask_suffix": "_L", "eval_split": "test"}]
    (finding,) = inspect(given | {"option_names": (), "layout": {"images": "x"}, "eval_split": "test"}).findings
    settings = {"config": "folder", "images": "x", "mask_suffix": "_L"}
    assert [setting.arguments for setting in finding.settings] == [settings]


def test_no_split_without_masks_is_left_out_where_training_has_none_either():
    def open_split(split, options):
        raise MissingMasks(f"no masks in {split}")

    assert [finding.settings for finding in inspect({"open_split": open_split}).findings] == [(), ()]


def test_a_batch_larger_than_the_training_set_is_warned_about():
    (found,) = (each for each in inspect(training={"batch_size": 99}).findings if each.text.startswith("batch_size"))
    count = len(SPLITS["first"])
    assert found.text.startswith(f"batch_size = 99, but the training set has {count} examples, so every batch repeats")
    assert (found.severity, [each.arguments for each in found.settings]) == ("warning", [{"batch_size": count}])
    assert not any(each.text.startswith("batch_size") for each in inspect().findings)
