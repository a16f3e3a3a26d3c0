"""The lists, palette masks and color map of Pascal VOC, read from a small dataset with the same layout."""

import pathlib
import shutil

import numpy as np
import pytest

from flaxseg.data.datasets.voc import voc
from flaxseg.data.types import IGNORE_LABEL
from flaxseg.errors import ArgumentError, DataError

pytest_plugins = ("published_layouts",)


def ids(dataset) -> list[str]:
    return [dataset.source[i]["id"] for i in range(len(dataset.source))]


def test_only_listed_images_are_read_from_either_folder(voc2012: pathlib.Path) -> None:
    for data_dir in (voc2012, voc2012 / "VOCdevkit" / "VOC2012"):
        assert ids(voc("train", data_dir=str(data_dir))) == ["2007_000032", "2007_000033"]
        assert ids(voc("val", data_dir=str(data_dir))) == ["2008_000001"]
        assert len(voc("trainval", data_dir=str(data_dir)).source) == 3


def test_other_masks_are_read_from_another_folder(voc2012: pathlib.Path) -> None:
    root = voc2012 / "VOCdevkit" / "VOC2012"
    shutil.copytree(root / "SegmentationClass", root / "SegmentationClassAug")
    # The format of the lists that are published with those masks.
    lines = "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n"
    (root / "ImageSets" / "Segmentation" / "train_aug.txt").write_text(lines)
    (root / "SegmentationClass" / "2007_000032.png").unlink()
    dataset = voc("train_aug", data_dir=str(root), masks="SegmentationClassAug")
    assert ids(dataset) == ["2007_000032"] and dataset.source[0]["label"].max() > 0


def test_palette_indices_are_classes_and_255_is_ignored(voc2012: pathlib.Path) -> None:
    label = voc("val", data_dir=str(voc2012)).source[0]["label"]
    np.testing.assert_array_equal(label.ravel(), [*range(21), *[IGNORE_LABEL] * 3])


def test_the_color_map_is_the_official_one(voc2012: pathlib.Path) -> None:
    dataset = voc("val", data_dir=str(voc2012))
    colors = dict(zip(dataset.class_names, dataset.palette, strict=True))
    assert dataset.num_classes == 21 and len(set(dataset.palette)) == 21
    expected = {
        "background": (0, 0, 0),
        "aeroplane": (128, 0, 0),
        "bicycle": (0, 128, 0),
        "boat": (0, 0, 128),
        "car": (128, 128, 128),
        "cat": (64, 0, 0),
        "person": (192, 128, 128),
        "pottedplant": (0, 64, 0),
        "train": (128, 192, 0),
        "tvmonitor": (0, 64, 128),
    }
    assert {name: colors[name] for name in expected} == expected
    assert dataset.class_names.index("person") == 15


def test_missing_parts_are_named(voc2012: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match=r"data_dir = '': voc needs the folder.*VOCtrainval_11-May-2012\.tar"):
        voc("train", data_dir="")
    with pytest.raises(DataError, match=r"(?s)existing splits: train, trainval, val\).*test\.txt cannot be read"):
        voc("test", data_dir=str(voc2012))
