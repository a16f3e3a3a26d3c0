"""The Oxford-IIIT Pet dataset: cats and dogs, each with a trimap (Parkhi et al., "Cats and Dogs", CVPR 2012)."""

import functools
import os

import numpy as np

from flaxseg.data.datasets.folder import folder
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.sources.prepared import PreparedSource
from flaxseg.data.sources.tfds_records import ALTERNATIVES, Archives, open_prepared
from flaxseg.data.sources.wrappers import MappedSource, sort_by_id
from flaxseg.data.types import IGNORE_LABEL, SegmentationDataset, Source
from flaxseg.errors import ArgumentError, check_choice

_TRIMAP_VALUES = (1, 2, 3)
_TASKS = {
    "trimap": (("pet", "background", "border"), ((230, 159, 0), (40, 40, 48), (86, 180, 233)), (0, 1, 2)),
    "binary": (("background", "pet"), ((40, 40, 48), (230, 159, 0)), (1, 0, 1)),
}
"""The class names and colors of each task, and the class of each trimap value."""

_LISTS = {"train": "trainval", "trainval": "trainval", "test": "test"}


def oxford_iiit_pet(
    split: str, *, data_dir: str = "", task: str = "trimap", manual_dir: str = ""
) -> SegmentationDataset:
    """Returns a split of Oxford-IIIT Pet, images of about 500x375: 3,680 in `train`, 3,669 in `test`.

    If `data_dir` contains the original layout (`images/`, `annotations/trimaps/`, `annotations/trainval.txt` and
    `test.txt`), it is read. Otherwise the dataset of this name of TensorFlow Datasets in `data_dir` is read; if
    necessary, it is downloaded and prepared first. Both have the same pixels in the same order, except for twelve
    damaged files that TensorFlow Datasets re-encodes as JPEG.

    Args:
      split: `train`, its other name `trainval`, or `test`; for the prepared dataset also a slice such as `train[:90%]`.
      data_dir: the folder of the original layout or of prepared datasets; "" for the default of TensorFlow Datasets.
      task: `trimap` for the classes pet, background, border; `binary` for background and pet, border included.
      manual_dir: the folder with images.tar.gz and annotations.tar.gz; "" for `downloads/manual` in data_dir.

    Raises:
      ArgumentError: an unknown task or split.
      DataError: the dataset does not exist and cannot be prepared.
    """
    check_choice("task", task, _TASKS)
    names, colors, class_of_trimap = _TASKS[task]
    root = os.path.expanduser(data_dir)
    if data_dir and any(os.path.isdir(os.path.join(root, part)) for part in ("images", "annotations")):
        source = _original_trimaps(split, root)
    else:
        source = _prepared_trimaps(split, data_dir, manual_dir)
    if task != "trimap":
        source = MappedSource(source, map_label=functools.partial(_map_classes, new_classes=class_of_trimap))
    return SegmentationDataset(source, len(names), names, colors)


def _map_classes(label: np.ndarray, *, new_classes: tuple[int, ...]) -> np.ndarray:
    """Replaces class i by `new_classes[i]`."""
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[: len(new_classes)] = new_classes
    return table[label]


def _original_trimaps(split: str, root: str) -> Source:
    if split not in _LISTS:
        raise ArgumentError(
            "split",
            split,
            f"the original layout of oxford_iiit_pet ({root}) has no such split; it has {', '.join(_LISTS)}. Slices "
            "such as 'train[:90%]' require the dataset prepared by TensorFlow Datasets, in another data_dir",
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
        alternatives=ALTERNATIVES,
    )
    encoded = ("image", "segmentation_mask")
    split = split.replace("trainval", "train")
    records = open_prepared("oxford_iiit_pet", split, data_dir=data_dir, encoded=encoded, archives=archives)
    source = PreparedSource(records, *encoded, "file_name", "oxford_iiit_pet", ClassValues(_TRIMAP_VALUES))
    # Preparing shuffles the examples. In the order of the original layout, a seed gives the same batches from both.
    return sort_by_id(source)
