"""Data sets by name, and what they are made of."""

from collections.abc import Callable

from flaxseg.data.batch import IGNORE_LABEL, Batch, Example, SegmentationDataset, Source
from flaxseg.data.folder import folder
from flaxseg.data.oxford_iiit_pet import oxford_iiit_pet
from flaxseg.data.pipeline import eval_batches, iterate, train_batches
from flaxseg.data.shapes import shapes

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "folder": folder,
    "oxford_iiit_pet": oxford_iiit_pet,
    "shapes": shapes,
}
"""Every built-in data set: `DATASETS[name](split, **options)` returns a `SegmentationDataset`."""

__all__ = [
    "DATASETS",
    "IGNORE_LABEL",
    "Batch",
    "Example",
    "SegmentationDataset",
    "Source",
    "eval_batches",
    "folder",
    "iterate",
    "oxford_iiit_pet",
    "shapes",
    "train_batches",
]
