"""The data that a saved network is evaluated on: that of its run, of another configuration, or a folder."""

import dataclasses
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from flaxseg.config.callbacks import drop_callbacks
from flaxseg.config.files import load_config, override
from flaxseg.config.schema import default_config
from flaxseg.config.validate import config_key, validate
from flaxseg.data.bad_examples import BadExamples, skip_bad_examples
from flaxseg.data.sources.split_lists import SPLIT
from flaxseg.data.splits import open_dataset
from flaxseg.data.types import SegmentationDataset
from flaxseg.deploy.saved import SavedModel
from flaxseg.deploy.trained import read_record
from flaxseg.errors import ConfigError, DataError

_FOLDERS = ("images", "masks")
"""The folders of a dataset `folder` without options, and the options that name others."""


@dataclasses.dataclass(frozen=True)
class EvaluationData:
    """The data of an evaluation, and how it is evaluated.

    Attributes:
      name: the dataset and its split, such as `folder DIR, split val`.
      masks: what the masks of the dataset `folder` contain; "" for other datasets.
      dataset: the dataset.
      batch_size: the number of images that are predicted at once.
      resolution: "native" or "image_size", where scores are computed.
      metrics: names of the metrics in addition to the confusion matrix.
      num_threads: the number of threads that read images.
      skipped: the examples that could not be read so far.
    """

    name: str
    masks: str
    dataset: SegmentationDataset
    batch_size: int
    resolution: str
    metrics: tuple[str, ...]
    num_threads: int
    skipped: BadExamples


def evaluation_config(
    saved: SavedModel, *, config: str = "", overrides: Sequence[str] = (), data: str = ""
) -> ConfigDict:
    """Returns the valid configuration whose data a network is evaluated on.

    Args:
      saved: the network.
      config: a configuration file; "" takes the configuration of the network's run.
      overrides: strings `key=value`.
      data: a folder to evaluate on instead, with the folders of the network's run, or with `images` and `masks`. If the
        network was trained on the dataset `folder`, as its run or its exported folder records, the options of that
        dataset apply, such as the values of the masks; otherwise the masks contain the indices of the network's
        classes.

    Raises:
      ConfigError: no configuration, or an invalid one.
      DataError: the run's data has a relative path, which does not exist in the current folder.
    """
    file = config or _recorded(saved, data)
    if not file and not data:
        raise ConfigError(
            f"{saved.name}: records no data to evaluate on, because it is not a run; give --config=FILE, or --data=DIR "
            "for a folder of images and masks"
        )
    found = load_config(file) if file else default_config()
    if data:
        _select_folder(found, data, saved.description.class_names)
    override(found, overrides)
    if not config and not data and not any(each.startswith("data.dir=") for each in overrides):
        check_recorded_folder(found, file)
    drop_callbacks(found)
    validate(found)
    return found


def open_evaluation_data(config: ConfigDict, *, split: str = "") -> EvaluationData:
    """Returns the data that a valid configuration evaluates on.

    Args:
      config: from `evaluation_config`.
      split: the split; "" takes that of the configuration.

    Raises:
      ConfigError: an option of the dataset, or a split, that does not fit.
      DataError: the dataset is missing or cannot be used.
    """
    settings, split = config.data, split or config.data.eval_split
    if not split:
        raise ConfigError(
            f"config.data.eval_split = '': names no split to evaluate on; give one with --split, such as "
            f"--split={settings.train_split}, or a folder of images and masks with --data"
        )
    with config_key("data", data_dir="dir", split="eval_split"):
        dataset = open_dataset(settings.name, split, data_dir=settings.dir, options=settings.options)
    skipped = BadExamples(settings.skip_bad, functools.partial(tqdm.write, file=sys.stderr))
    if settings.skip_bad:
        dataset = skip_bad_examples(dataset, skipped, split, ignored=True)
    return EvaluationData(
        name=" ".join(filter(None, (settings.name, settings.dir))) + f", split {split}",
        masks=_masks(settings.options) if settings.name == "folder" else "",
        dataset=dataset,
        batch_size=config.eval.batch_size,
        resolution=config.eval.resolution,
        metrics=tuple(config.eval.metrics),
        num_threads=settings.num_threads,
        skipped=skipped,
    )


def check_recorded_folder(config: ConfigDict, file: str) -> None:
    """Checks that the data of a run is found where its configuration says, if that is a relative path.

    Args:
      config: the run's configuration.
      file: where it is stored, for messages.

    Raises:
      DataError: there is nothing of this name, seen from the current folder.
    """
    path = config.data.dir
    if path and not os.path.isabs(path) and "://" not in path and not os.path.exists(path):
        raise DataError(
            f"{file}: the data of this run is in {path}, which is relative to the folder that it was trained from and "
            f"does not exist in {os.getcwd()}; run the command in the former folder, or add "
            "--config.data.dir=DIR to evaluate, or give the images to predict as --input"
        )


def note_on_training_images(saved: SavedModel, config: ConfigDict, split: str) -> str:
    """Returns a warning if a network is evaluated on a folder that it was trained on; "" otherwise.

    Args:
      saved: the network.
      config: from `evaluation_config`.
      split: the split of it that is evaluated.
    """
    record = read_record(saved)
    trained = record.config.get("data", {})
    same = trained.get("dir") and _image_folder(trained["dir"], trained["options"]) == _image_folder(
        config.data.dir, config.data.options
    )
    if not same or split not in ("all", trained["train_split"]) or split == trained["eval_split"]:
        return ""
    own = f"; flaxseg evaluate {saved.folder}, without --data, takes those held out" if trained["eval_split"] else ""
    return (
        f"note: {saved.name} was trained on {record.data.get('train', 0):,} images of this folder, which may be among "
        f"those evaluated now, so that the scores are too high{own}"
    )


def _image_folder(directory: str, options: Mapping[str, Any]) -> str:
    """Returns the real path of the images of a dataset, as its options name it."""
    return os.path.realpath(os.path.join(directory, options.get("images", "images")))


def _recorded(saved: SavedModel, data: str) -> str:
    """Returns the configuration of the network's run; that of an exported folder serves for other data alone."""
    if saved.config:
        return str(saved.config)
    exported = saved.folder / "config.json" if saved.folder else None
    return str(exported) if data and exported and exported.is_file() else ""


def _has_folders(config: ConfigDict) -> bool:
    """Returns whether the folders of images and masks that the options of the dataset `folder` name exist."""
    paths = (str(config.data.options.get(name, name)) for name in _FOLDERS)
    return all(
        os.path.isdir(os.path.join(config.data.dir, path.replace(SPLIT, config.data.eval_split))) for path in paths
    )


def _masks(options: ConfigDict) -> str:
    """Returns what the masks of the dataset `folder` contain, for the user to check."""
    if "colors" in options:
        return "masks of colors"
    if "values" not in options:
        return "masks whose values were found by a scan"
    values = tuple(options["values"])
    return "masks of class indices" if values == tuple(range(len(values))) else f"masks with the values {values}"


def _select_folder(config: ConfigDict, directory: str, class_names: Sequence[str]) -> None:
    """Changes a configuration so that it evaluates on a folder."""
    if config.data.name != "folder":
        config.data.name = "folder"
        indices = {"values": tuple(range(len(class_names))), "class_names": tuple(class_names)}
        config.data.options = ConfigDict(indices, type_safe=False)
    config.data.dir = directory
    if not _has_folders(config) and all(os.path.isdir(os.path.join(directory, name)) for name in _FOLDERS):
        for option in {*_FOLDERS, "split_list"} & {*config.data.options}:
            del config.data.options[option]
    if not any("{split}" in str(value) for value in config.data.options.values()):
        config.data.eval_split = "all"
