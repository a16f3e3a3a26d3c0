"""Pascal VOC 2012, segmentation task (Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2015)."""

import os

from flaxseg.data.datasets.folder import folder
from flaxseg.data.types import Color, SegmentationDataset
from flaxseg.errors import ArgumentError

_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
_SUBFOLDER = os.path.join("VOCdevkit", "VOC2012")

LAYOUT = {
    "images": "JPEGImages",
    "masks": "SegmentationClass",
    "split_list": "ImageSets/Segmentation/{split}.txt",
}
"""The options of `folder` for the files."""

CLASS_NAMES = (
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


def voc(split: str, *, data_dir: str, masks: str = LAYOUT["masks"]) -> SegmentationDataset:
    """Returns a split of Pascal VOC 2012, images of about 500x375 with 21 classes: 1,464 in `train`, 1,449 in `val`.

    Mask value 255, which marks the border of objects and ambiguous regions, is ignored. The archive is at
    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/.

    Args:
      split: `train`, `val`, `trainval`, or another list in `ImageSets/Segmentation/`, such as `train_aug` with the
        10,582 images that have a mask of Hariharan et al. 2011. Images that are not listed have no mask.
      data_dir: the folder `VOC2012`, or the folder with `VOCdevkit/VOC2012` that the archive was unpacked into.
      masks: the folder of the masks; `SegmentationClassAug` for those of Hariharan et al.

    Raises:
      ArgumentError: no data_dir.
      DataError: a missing folder or split, or files that do not match.
    """
    if not data_dir:
        raise ArgumentError(
            "data_dir",
            data_dir,
            f"voc needs the folder that VOCtrainval_11-May-2012.tar ({_PAGE}) was unpacked into",
        )
    root = os.path.expanduser(data_dir)
    subfolder = os.path.join(root, _SUBFOLDER)
    return folder(
        split,
        data_dir=subfolder if os.path.isdir(subfolder) else root,
        images=LAYOUT["images"],
        masks=masks,
        split_list=LAYOUT["split_list"],
        values=range(len(CLASS_NAMES)),
        class_names=CLASS_NAMES,
        palette=tuple(color_of(index) for index in range(len(CLASS_NAMES))),
    )


def color_of(index: int) -> Color:
    """Returns a color of VOC's color map: bits 0, 3 and 6 of the index are red's three highest bits, from the top."""
    red, green, blue = (
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)
    )
    return red, green, blue
