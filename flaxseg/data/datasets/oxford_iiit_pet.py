"""The Oxford-IIIT Pet dataset: cats and dogs, each with a trimap (Parkhi et al., "Cats and Dogs", CVPR 2012)."""

import functools
import os

import numpy as np

from flaxseg.data.datasets.folder import folder
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.sources.prepared import OTHER_WAYS, Archives, PreparedSource, open_prepared, sorted_by_id
from flaxseg.data.types import IGNORE_LABEL, Example, Mapped, SegmentationDataset, Source
from flaxseg.errors import DataError

_TRIMAP_VALUES = (1, 2, 3)
_TASKS = {
    "trimap": (("pet", "background", "border"), ((230, 159, 0), (40, 40, 48), (86, 180, 233)), (0, 1, 2)),
    "binary": (("background", "pet"), ((40, 40, 48), (230, 159, 0)), (1, 0, 1)),
}
"""A task's class names, its colors, and the class of each trimap value in turn."""

_LISTS = {"train": "trainval", "trainval": "trainval", "test": "test"}


def oxford_iiit_pet(
    split: str, *, data_dir: str = "", task: str = "trimap", manual_dir: str = ""
) -> SegmentationDataset:
    """Pictures of pets of about 500x375; `train` (also called `trainval`) has 3,680 of them and `test` 3,669.

    If `data_dir` holds the original layout (`images/`, `annotations/trimaps/`, `annotations/trainval.txt` and
    `test.txt`), that is read; otherwise the prepared TensorFlow Datasets dataset of this name below `data_dir`,
    which is downloaded and prepared if it is not there. Both give the same pixels, up to the twelve broken files
    which TensorFlow Datasets stores anew as JPEG.

    Args:
      split: `train`, `trainval` or `test`; of the prepared dataset also slices such as `train[:90%]`.
      data_dir: as above; "" for TensorFlow Datasets' own default directory.
      task: `trimap` has the classes pet, background, border (trimap values 1, 2, 3); `binary` has background and
        pet, where the border counts as pet.
      manual_dir: where images.tar.gz and annotations.tar.gz lie if they are not to be downloaded;
        "" for `downloads/manual` in data_dir.

    Raises:
      DataError: an unknown task or split, or a dataset that is not there and cannot be prepared.
    """
    if task not in _TASKS:
        raise DataError(f"data.options.task of oxford_iiit_pet is {task!r}: it has to be one of {', '.join(_TASKS)}")
    names, colors, class_of_value = _TASKS[task]
    root = os.path.expanduser(data_dir)
    if data_dir and any(os.path.isdir(os.path.join(root, part)) for part in ("images", "annotations")):
        trimaps = _original_trimaps(split, root)
    else:
        trimaps = _prepared_trimaps(split, data_dir, manual_dir)
    change = functools.partial(_relabeled, to_class=class_of_value)
    source: Source = trimaps if task == "trimap" else Mapped(trimaps, change)
    return SegmentationDataset(source, len(names), names, colors)


def _relabeled(example: Example, *, to_class: tuple[int, ...]) -> Example:
    """Makes `to_class[i]` of class i."""
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[: len(to_class)] = to_class
    return {**example, "label": table[example["label"]]}


def _original_trimaps(split: str, root: str) -> Source:
    if split not in _LISTS:
        raise DataError(
            f"oxford_iiit_pet in the original layout ({root}) has no split {split!r}: there are {', '.join(_LISTS)}; "
            "slices such as 'train[:90%]' need the dataset prepared by TensorFlow Datasets, in another data.dir"
        )
    return folder(
        _LISTS[split],
        data_dir=root,
        images="images",
        masks="annotations/trimaps",
        split_list="annotations/{split}.txt",
        values=_TRIMAP_VALUES,
    ).source


def _prepared_trimaps(split: str, data_dir: str, manual_dir: str) -> Source:
    archives = Archives(
        files=("images.tar.gz", "annotations.tar.gz"),
        manual_dir=manual_dir,
        host="thor.robots.ox.ac.uk",
        page="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        otherwise=OTHER_WAYS,
    )
    pictures = ("image", "segmentation_mask")
    split = split.replace("trainval", "train")
    records = open_prepared("oxford_iiit_pet", split, data_dir=data_dir, encoded=pictures, archives=archives)
    source = PreparedSource(records, *pictures, "file_name", "oxford_iiit_pet", ClassValues(_TRIMAP_VALUES))
    return sorted_by_id(source)
