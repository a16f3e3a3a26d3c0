"""Datasets by name. To add one, write a file with its function here and add a row to DATASETS."""

from collections.abc import Callable, Mapping

from flaxseg.data.datasets.camvid import LAYOUT as _CAMVID
from flaxseg.data.datasets.camvid import camvid
from flaxseg.data.datasets.cityscapes import LAYOUT as _CITYSCAPES
from flaxseg.data.datasets.cityscapes import cityscapes
from flaxseg.data.datasets.folder import folder
from flaxseg.data.datasets.oxford_iiit_pet import oxford_iiit_pet
from flaxseg.data.datasets.shapes import shapes
from flaxseg.data.datasets.tfds import tfds
from flaxseg.data.datasets.voc import LAYOUT as _VOC
from flaxseg.data.datasets.voc import voc
from flaxseg.data.types import SegmentationDataset

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "folder": folder,
    "oxford_iiit_pet": oxford_iiit_pet,
    "shapes": shapes,
    "tfds": tfds,
    "voc": voc,
}
"""Every built-in dataset: `DATASETS[name](split, **options)` returns a `SegmentationDataset`."""

LAYOUTS: Mapping[str, Mapping[str, str]] = {"camvid": _CAMVID, "cityscapes": _CITYSCAPES, "voc": _VOC}
"""For datasets with fixed classes, the options with which `folder` reads other images and masks in the same layout."""
