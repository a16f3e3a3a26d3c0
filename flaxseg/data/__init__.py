"""Data sets by name, and what they are made of."""

from collections.abc import Callable

from flaxseg.data.batch import IGNORE_LABEL, Batch, Example, SegmentationDataset, Source
from flaxseg.data.camvid import camvid
from flaxseg.data.cityscapes import cityscapes
from flaxseg.data.folder import folder
from flaxseg.data.oxford_iiit_pet import oxford_iiit_pet
from flaxseg.data.pipeline import eval_batches, iterate, train_batches
from flaxseg.data.shapes import shapes
from flaxseg.data.tfds import tfds
from flaxseg.data.voc import voc

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "folder": folder,
    "oxford_iiit_pet": oxford_iiit_pet,
    "shapes": shapes,
    "tfds": tfds,
    "voc": voc,
}
"""Every built-in data set: `DATASETS[name](split, **options)` returns a `SegmentationDataset`."""

__all__ = [
    "DATASETS",
    "IGNORE_LABEL",
    "Batch",
    "Example",
    "SegmentationDataset",
    "Source",
    "camvid",
    "cityscapes",
    "eval_batches",
    "folder",
    "iterate",
    "oxford_iiit_pet",
    "shapes",
    "tfds",
    "train_batches",
    "voc",
]
