"""Folders of training images and masks that flaxseg and a PyTorch script read alike."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
SPLITS = ("train", "val")


class TrainingFolder(NamedTuple):
    """A folder with train/images, train/masks, val/images and val/masks, whose files have the same stems."""

    root: Path
    values: tuple[int, ...]
    """The mask value of each class."""
    train: int
    """Number of training images."""
    val: int
    """Number of images to evaluate on."""


def linked(
    source: Path, root: Path, *, images: str, masks: str, values: list[int], train: int, val: int
) -> TrainingFolder:
    """Makes a folder of links to the first images of another folder that have masks; the split is by their order.

    Args:
      source: the other folder, of which nothing is changed.
      root: the folder to make.
      images: the folder of the images in `source`.
      masks: the folder of the masks, PNG files, in `source`.
      values: the mask value of each class.
      train: the largest number of training images.
      val: number of images to evaluate on.
    """
    paths = sorted(path for path in (source / images).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    pairs = [(path, source / masks / f"{path.stem}.png") for path in paths]
    pairs = [pair for pair in pairs if pair[1].is_file()][: train + val]
    counts = {"train": max(len(pairs) - val, 0), "val": min(val, len(pairs))}
    for split in SPLITS:
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        first = 0 if split == "train" else counts["train"]
        for image, mask in pairs[first : first + counts[split]]:
            (root / split / "images" / image.name).symlink_to(image.resolve())
            (root / split / "masks" / mask.name).symlink_to(mask.resolve())
    return TrainingFolder(root, tuple(values), **counts)


def generated(root: Path, *, train: int, val: int, size: tuple[int, int]) -> TrainingFolder:
    """Makes a folder of generated images, as JPEG files, with their masks."""
    from flaxseg.data import shapes

    classes = 0
    for split, count in zip(SPLITS, (train, val), strict=True):
        dataset = shapes(split, size=size, count=count)
        classes = dataset.num_classes
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            example = dataset.source[index]
            Image.fromarray(np.asarray(example["image"])).save(root / split / "images" / f"{index:04d}.jpg", quality=90)
            Image.fromarray(np.asarray(example["label"])).save(root / split / "masks" / f"{index:04d}.png")
    return TrainingFolder(root, tuple(range(classes)), train, val)
