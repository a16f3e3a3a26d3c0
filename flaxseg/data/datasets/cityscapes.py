"""Cityscapes: street scenes of 50 cities, finely labeled (Cordts et al., CVPR 2016)."""

import os

from flaxseg.data.datasets.folder import folder
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.sources.prepared import OTHER_WAYS, Archives, PreparedSource, open_prepared
from flaxseg.data.types import Example, Mapped, SegmentationDataset, Source
from flaxseg.errors import DataError

_CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""In the order of the trainIds, from 0 on: name, labelId and color."""

_VALUES = tuple(value for value, _ in _CLASSES.values())
_IGNORED = tuple(value for value in range(34) if value not in _VALUES)
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


def cityscapes(split: str, *, data_dir: str = "", manual_dir: str = "") -> SegmentationDataset:
    """Pictures of 2048x1024 with 19 classes: `train` has 2,975 of them, `val` 500, `test` 1,525 without labels.

    If `data_dir` holds the original layout (`leftImg8bit/` and `gtFine/`), that is read; otherwise the prepared
    TensorFlow Datasets dataset `cityscapes/semantic_segmentation` below `data_dir`, which is prepared from the two
    archives in `manual_dir` if it is not there. Both give the same pixels, in another order. The labelIds of the
    files become the 19 trainIds; all others are ignored.

    Args:
      split: `train`, `val` (also called `validation`) or `test`; of the prepared dataset also slices such as
        `train[:90%]`.
      data_dir: as above; "" for TensorFlow Datasets' own default directory.
      manual_dir: where leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip lie; "" for `downloads/manual` in
        data_dir.

    Raises:
      DataError: an unknown split, or a dataset that is not there and cannot be prepared.
    """
    root = os.path.expanduser(data_dir)
    if data_dir and any(os.path.isdir(os.path.join(root, part)) for part in ("leftImg8bit", "gtFine")):
        source = _original(split, root)
    else:
        source = _prepared(split, data_dir, manual_dir)
    palette = tuple(color for _, color in _CLASSES.values())
    return SegmentationDataset(source, len(_CLASSES), tuple(_CLASSES), palette)


def _original(split: str, root: str) -> Source:
    if split not in _SPLITS:
        raise DataError(
            f"cityscapes in the original layout ({root}) has no split {split!r}: there are {', '.join(_SPLITS)}; "
            "slices such as 'train[:90%]' need the dataset prepared by TensorFlow Datasets, in another data.dir"
        )
    pairs = folder(
        _SPLITS[split],
        data_dir=root,
        images="leftImg8bit/{split}",
        masks="gtFine/{split}",
        image_suffix="_leftImg8bit",
        mask_suffix="_gtFine_labelIds",
        values=_VALUES,
        ignore_values=_IGNORED,
        palette=tuple(color for _, color in _CLASSES.values()),
    )
    return Mapped(pairs.source, _without_folder)


def _without_folder(example: Example) -> Example:
    """Calls the example by the last part of its path, which is the image id."""
    return {**example, "id": example["id"].rpartition("/")[2]}


def _prepared(split: str, data_dir: str, manual_dir: str) -> Source:
    archives = Archives(
        files=("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"),
        manual_dir=manual_dir,
        host="www.cityscapes-dataset.com",
        page="https://www.cityscapes-dataset.com/downloads/, after registering there",
        otherwise=OTHER_WAYS,
    )
    name, pictures = "cityscapes/semantic_segmentation", ("image_left", "segmentation_label")
    split = split.replace("validation", "val").replace("val", "validation")
    records = open_prepared(name, split, data_dir=data_dir, encoded=pictures, archives=archives)
    # Not sorted by id, as the pets are: that would read all of its gigabytes before the first step.
    return PreparedSource(records, *pictures, "image_id", "cityscapes", ClassValues(_VALUES, _IGNORED))
