"""Pascal VOC 2012, segmentation (Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2015)."""

import os

from flaxseg.data.datasets.folder import folder
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError

_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
_BELOW = os.path.join("VOCdevkit", "VOC2012")

_CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc(split: str, *, data_dir: str, masks: str = "SegmentationClass") -> SegmentationDataset:
    """Pictures of about 500x375 with 20 kinds of objects and background; `train` has 1,464 of them and `val` 1,449.

    Mask value 255, the border of objects and what was too hard to tell, is ignored.

    Args:
      split: `train`, `val`, `trainval`, or another list of `ImageSets/Segmentation/`, which alone says what has a
        mask; such as `train_aug` of the 10,582 pictures with the masks of Hariharan et al. 2011.
      data_dir: the folder VOC2012 with `JPEGImages/`, `SegmentationClass/` and `ImageSets/`, or one that holds
        `VOCdevkit/VOC2012`, as the archive of http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ unpacks.
      masks: the folder of the masks; `SegmentationClassAug` where those of Hariharan et al. were put there.

    Raises:
      DataError: no such folder or split, or files that do not fit together.
    """
    if not data_dir:
        raise DataError(
            f"the dataset voc needs data.dir, the folder that VOCtrainval_11-May-2012.tar ({_PAGE}) was unpacked into"
        )
    root = os.path.expanduser(data_dir)
    below = os.path.join(root, _BELOW)
    return folder(
        split,
        data_dir=below if os.path.isdir(below) else root,
        images="JPEGImages",
        masks=masks,
        split_list="ImageSets/Segmentation/{split}.txt",
        class_names=_CLASS_NAMES,
        palette=tuple(_color(index) for index in range(len(_CLASS_NAMES))),
    )


def _color(index: int) -> tuple[int, int, int]:
    """The color map of VOC: bits 0, 3, 6 of the index are red's highest bits in falling order, and so on."""
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue
