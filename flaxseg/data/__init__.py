"""Datasets, the sources that they read examples from, and the batches made of them."""

from flaxseg.data.datasets import DATASETS, camvid, cityscapes, folder, oxford_iiit_pet, shapes, tfds, voc
from flaxseg.data.evaluation import eval_batches
from flaxseg.data.pipeline import iterate, train_batches
from flaxseg.data.sources.wrappers import MappedSource, SortedSource, SourceWrapper, sort_by_id
from flaxseg.data.types import IGNORE_LABEL, Batch, Example, SegmentationDataset, Source

__all__ = [
    "DATASETS",
    "IGNORE_LABEL",
    "Batch",
    "Example",
    "MappedSource",
    "SegmentationDataset",
    "SortedSource",
    "Source",
    "SourceWrapper",
    "camvid",
    "cityscapes",
    "eval_batches",
    "folder",
    "iterate",
    "oxford_iiit_pet",
    "shapes",
    "sort_by_id",
    "tfds",
    "train_batches",
    "voc",
]
