"""Cityscapes: street scenes of 50 cities, finely labeled (Cordts et al., CVPR 2016)."""

import os

from flaxseg.data.datasets.folder import folder
from flaxseg.data.masks.class_values import ClassValues
from flaxseg.data.sources.prepared import PreparedSource
from flaxseg.data.sources.tfds_records import ALTERNATIVES, Archives, open_prepared
from flaxseg.data.sources.wrappers import MappedSource
from flaxseg.data.types import SegmentationDataset, Source
from flaxseg.errors import ArgumentError

LAYOUT = {
    "images": "leftImg8bit/{split}",
    "masks": "gtFine/{split}",
    "image_suffix": "_leftImg8bit",
    "mask_suffix": "_gtFine_labelIds",
}
"""The options of `folder` for the files of the original layout."""

CLASSES = {
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
"""The labelId and the color of each class, in the order of the trainIds, starting at 0."""

_VALUES = tuple(value for value, _ in CLASSES.values())
_IGNORED = tuple(value for value in range(34) if value not in _VALUES)
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


def cityscapes(split: str, *, data_dir: str = "", manual_dir: str = "") -> SegmentationDataset:
    """Returns a split of Cityscapes, 2048x1024 images with 19 classes: 2,975 in `train`, 500 in `val`, 1,525 in `test`.

    The images of `test` are unlabeled: all of their pixels are ignored. The labelIds of the files become the 19
    trainIds; all other labelIds are ignored.

    If `data_dir` contains the original layout (`leftImg8bit/` and `gtFine/`), it is read. Otherwise the dataset
    `cityscapes/semantic_segmentation` of TensorFlow Datasets in `data_dir` is read; if necessary, it is prepared first
    from leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip in `manual_dir`. Both have the same pixels, in a
    different order.

    Args:
      split: `train`, `val` (also called `validation`) or `test`; for the prepared dataset also a slice such as
        `train[:90%]`.
      data_dir: the folder of the original layout or of prepared datasets; "" for the default of TensorFlow Datasets.
      manual_dir: the folder with the two archives; "" for `downloads/manual` in data_dir.

    Raises:
      ArgumentError: an unknown split.
      DataError: the dataset does not exist and cannot be prepared.
    """
    root = os.path.expanduser(data_dir)
    if data_dir and any(os.path.isdir(os.path.join(root, part)) for part in ("leftImg8bit", "gtFine")):
        source = _original(split, root)
    else:
        source = _prepared(split, data_dir, manual_dir)
    return SegmentationDataset(source, len(CLASSES), tuple(CLASSES), _palette())


def _palette() -> tuple[tuple[int, int, int], ...]:
    return tuple(color for _, color in CLASSES.values())


def _original(split: str, root: str) -> Source:
    if split not in _SPLITS:
        raise ArgumentError(
            "split",
            split,
            f"the original layout of cityscapes ({root}) has no such split; it has {', '.join(_SPLITS)}. Slices such "
            "as 'train[:90%]' require the dataset prepared by TensorFlow Datasets, in another data_dir",
        )
    pairs = folder(
        _SPLITS[split],
        data_dir=root,
        images=LAYOUT["images"],
        masks=LAYOUT["masks"],
        image_suffix=LAYOUT["image_suffix"],
        mask_suffix=LAYOUT["mask_suffix"],
        values=_VALUES,
        ignore_values=_IGNORED,
        palette=_palette(),
    )
    return MappedSource(pairs.source, map_id=_without_folder)


def _without_folder(stem: str) -> str:
    """Returns the last part of a path, which is the image_id of TensorFlow Datasets."""
    return stem.rpartition("/")[2]


def _prepared(split: str, data_dir: str, manual_dir: str) -> Source:
    archives = Archives(
        files=("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"),
        manual_dir=manual_dir,
        host="www.cityscapes-dataset.com",
        page="https://www.cityscapes-dataset.com/downloads/, after registering there",
        alternatives=ALTERNATIVES,
    )
    name, encoded = "cityscapes/semantic_segmentation", ("image_left", "segmentation_label")
    split = split.replace("validation", "val").replace("val", "validation")
    records = open_prepared(name, split, data_dir=data_dir, encoded=encoded, archives=archives)
    # Not sorted by id, unlike the pets, because that would read gigabytes before the first step.
    return PreparedSource(records, *encoded, "image_id", "cityscapes", ClassValues(_VALUES, _IGNORED))
